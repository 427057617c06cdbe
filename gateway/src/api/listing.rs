//! Listings in OpenAI's shape: `limit`, `order`, `after`, `before` in the query; `first_id`, `last_id` and `has_more`
//! in the answer.

use habit_memory::objects::{Object, Order, Slice};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::error::ApiError;

/// Items in a listing where no number is asked for.
const LIMIT: u64 = 20;

/// The longest listing.
const MOST: u64 = 100;

/// Which part of a listing is asked for.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// At most so many, 1 to 100; 20 if absent.
    #[param(minimum = 1, maximum = 100)]
    pub limit: Option<u64>,
    /// By when things were made: newest first unless it says so.
    #[param(inline)]
    pub order: Option<ListOrder>,
    /// Only what comes after the thing with this id.
    pub after: Option<String>,
    /// Only what comes before the thing with this id.
    pub before: Option<String>,
}

/// The order of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ListOrder {
    /// Oldest first.
    Asc,
    /// Newest first.
    Desc,
}

/// A listing.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Listing<T> {
    /// `list`.
    pub object: &'static str,
    /// What there is.
    pub data: Vec<T>,
    /// The first one's id, or null.
    pub first_id: Option<String>,
    /// The last one's id, or null: `after` goes on from here.
    pub last_id: Option<String>,
    /// Whether there are more.
    pub has_more: bool,
}

impl ListQuery {
    /// What to ask the store for: one more than is shown, which tells whether there are more.
    ///
    /// # Errors
    /// 400 if the limit is out of its range.
    pub fn slice(&self) -> Result<Slice, ApiError> {
        let slice = self.part(LIMIT, MOST)?;
        Ok(Slice {
            limit: slice.limit + 1,
            ..slice
        })
    }

    /// What is asked for, where `usual` is the limit that is meant without one, and `most` the largest.
    ///
    /// # Errors
    /// 400 if the limit is out of its range.
    pub fn part(&self, usual: u64, most: u64) -> Result<Slice, ApiError> {
        let limit = self.limit.unwrap_or(usual);
        if !(1..=most).contains(&limit) {
            return Err(ApiError::invalid(
                format!("`limit` must be 1 to {most}, not {limit}"),
                Some("limit"),
            ));
        }
        let given = |id: &Option<String>| id.clone().filter(|id| !id.is_empty());
        Ok(Slice {
            after: given(&self.after),
            before: given(&self.before),
            limit,
            order: match self.order {
                Some(ListOrder::Asc) => Order::Oldest,
                Some(ListOrder::Desc) | None => Order::Newest,
            },
        })
    }
}

impl<T> Listing<T> {
    /// What there is, by what each is called, and whether there are more.
    pub fn new(data: Vec<T>, has_more: bool, id: impl Fn(&T) -> &str) -> Self {
        Self {
            object: "list",
            first_id: data.first().map(|item| id(item).to_owned()),
            last_id: data.last().map(|item| id(item).to_owned()),
            has_more,
            data,
        }
    }

    /// What the store gave for [`ListQuery::slice`], as `view` shows it.
    pub fn of(mut objects: Vec<Object>, slice: &Slice, view: impl FnMut(Object) -> T) -> Self {
        let shown = usize::try_from(slice.limit.saturating_sub(1)).unwrap_or(usize::MAX);
        let has_more = objects.len() > shown;
        objects.truncate(shown);
        Self {
            object: "list",
            first_id: objects.first().map(own_id),
            last_id: objects.last().map(own_id),
            has_more,
            data: objects.into_iter().map(view).collect(),
        }
    }
}

impl<T> Listing<T> {
    /// All of these.
    pub fn whole(objects: Vec<Object>, view: impl FnMut(Object) -> T) -> Self {
        let slice = Slice {
            limit: objects.len() as u64 + 1,
            ..Slice::all()
        };
        Self::of(objects, &slice, view)
    }
}

/// The id that a client knows an object by: items are kept with the name of what they belong to in front.
fn own_id(object: &Object) -> String {
    let prefix = object.parent.as_ref().map(|parent| format!("{parent}/"));
    let own = prefix.as_deref().and_then(|prefix| object.id.strip_prefix(prefix));
    own.unwrap_or(&object.id).to_owned()
}
