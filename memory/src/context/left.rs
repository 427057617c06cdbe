//! The turns that left a prompt and that the journal does not know: a client brought them along. They are looked through
//! by their words, in the request itself; nothing of them is kept.

use uuid::Uuid;

use super::{Options, Request};
use crate::index::{Entry, Owner, Query};
use crate::overflow::Earlier;
use crate::passage::SourceKind;
use crate::query_vector::QueryVector;
use crate::rank::{self, dates, words};
use crate::store::shelf::{self, Alike, Shelf};

/// Those that are near enough to what is asked, with their scores, best first.
pub(super) fn near<'a>(request: &'a Request, options: &Options) -> Vec<(&'a Earlier, f32)> {
    let unknown = |turn: &&Earlier| turn.place < request.gone.brought && !turn.prompt.trim().is_empty();
    let turns: Vec<&Earlier> = request.gone.turns.iter().filter(unknown).collect();
    if turns.is_empty() || request.query.trim().is_empty() {
        return Vec::new();
    }
    let mut shelf = Shelf::default();
    for (number, turn) in turns.iter().enumerate() {
        shelf.put(&entry(request, turn, number));
    }
    let query = Query {
        source: SourceKind::Recalled,
        text: &request.query,
        vector: QueryVector::default(),
        parents: None,
        limit: options.candidates,
        around: true,
    };
    let hits = shelf::search(&[&shelf], None, &query, Alike::new);
    let days = dates::named(&request.query, request.asked_at);
    let ranked = rank::rank(&hits, days.as_ref(), &options.turns);
    let near = rank::above_floor(&hits, ranked, &options.floor).into_iter();
    let turn = |place: usize| turns.get(usize::try_from(hits[place].id.as_u128()).ok()?).copied();
    near.filter_map(|scored| Some((turn(scored.place)?, scored.score)))
        .collect()
}

/// When it was said is not known: only what came after what, and that all came before what is asked.
pub(super) fn at(request: &Request, turn: &Earlier) -> i64 {
    let last = request.gone.turns.last().map_or(0, |last| last.place);
    let before = i64::try_from(last.saturating_sub(turn.place)).unwrap_or(i64::MAX);
    request.asked_at.saturating_sub(before).saturating_sub(1)
}

fn entry(request: &Request, turn: &Earlier, number: usize) -> Entry {
    let id = Uuid::from_u128(number as u128);
    Entry {
        id,
        parent: id,
        source: SourceKind::Recalled,
        owner: Owner {
            team: request.scope.team().to_owned(),
            user: Some(request.scope.user().to_owned()),
            conversation: None,
        },
        session: String::new(),
        speaker: turn.name.clone(),
        text: format!("{}\n{}", turn.prompt.trim(), turn.reply.trim()),
        words: u32::try_from(turn.prompt.split_whitespace().count()).unwrap_or(u32::MAX),
        states: !words::only_asks(&turn.prompt) && !words::wishes(&turn.prompt),
        vector: Vec::new(),
        at: at(request, turn),
    }
}
