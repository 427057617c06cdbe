//! The order in which waiting requests are served: interactive ones before background ones, and among them each tenant
//! in turn, one request each; a tenant's own requests in the order in which they came. Pure: no time, no tasks.

use std::collections::{HashMap, VecDeque};

use crate::Priority;

/// Requests that wait, with whatever is needed to wake them.
#[derive(Debug)]
pub struct Queue<T> {
    interactive: Class<T>,
    background: Class<T>,
    next_id: u64,
}

/// Names a waiting request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    priority: Priority,
    tenant: String,
    id: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            interactive: Class::default(),
            background: Class::default(),
            next_id: 0,
        }
    }
}

impl<T> Queue<T> {
    /// Puts one at the end of its tenant's line.
    pub fn push(&mut self, priority: Priority, tenant: &str, item: T) -> Ticket {
        let id = self.next_id;
        self.next_id += 1;
        self.class(priority).push(tenant, id, item);
        Ticket {
            priority,
            tenant: tenant.to_owned(),
            id,
        }
    }

    /// Takes the one whose turn it is.
    pub fn pop(&mut self) -> Option<T> {
        self.interactive.pop().or_else(|| self.background.pop())
    }

    /// Takes one out that no longer wants to wait; `None` if it was served before.
    pub fn remove(&mut self, ticket: &Ticket) -> Option<T> {
        self.class(ticket.priority).remove(&ticket.tenant, ticket.id)
    }

    /// Makes room in a full queue for one of this priority and tenant, at the cost of who has most: a background
    /// request goes before an interactive one is refused, and the last of the longest line before one of a tenant whose
    /// line would still be shorter. `None` if the newcomer has no better right than any that waits.
    pub fn make_room(&mut self, priority: Priority, tenant: &str) -> Option<T> {
        if priority == Priority::Interactive
            && let Some(item) = self.background.pop_longest(0)
        {
            return Some(item);
        }
        let class = self.class(priority);
        let own = class.lines.get(tenant).map_or(0, VecDeque::len);
        class.pop_longest(own + 1)
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.interactive.len + self.background.len
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many background requests wait.
    #[must_use]
    pub fn background(&self) -> usize {
        self.background.len
    }

    fn class(&mut self, priority: Priority) -> &mut Class<T> {
        match priority {
            Priority::Interactive => &mut self.interactive,
            Priority::Background => &mut self.background,
        }
    }
}

/// Requests of one priority.
#[derive(Debug)]
struct Class<T> {
    /// A line a tenant; none is empty.
    lines: HashMap<String, VecDeque<(u64, T)>>,
    /// The tenants with a line, in the order of their turns.
    turns: VecDeque<String>,
    len: usize,
}

impl<T> Default for Class<T> {
    fn default() -> Self {
        Self {
            lines: HashMap::new(),
            turns: VecDeque::new(),
            len: 0,
        }
    }
}

impl<T> Class<T> {
    fn push(&mut self, tenant: &str, id: u64, item: T) {
        self.len += 1;
        if let Some(line) = self.lines.get_mut(tenant) {
            line.push_back((id, item));
            return;
        }
        self.lines.insert(tenant.to_owned(), VecDeque::from([(id, item)]));
        self.turns.push_back(tenant.to_owned());
    }

    fn pop(&mut self) -> Option<T> {
        let tenant = self.turns.pop_front()?;
        let line = self.lines.get_mut(&tenant)?;
        let (_, item) = line.pop_front()?;
        self.len -= 1;
        if line.is_empty() {
            self.lines.remove(&tenant);
        } else {
            self.turns.push_back(tenant);
        }
        Some(item)
    }

    fn remove(&mut self, tenant: &str, id: u64) -> Option<T> {
        let line = self.lines.get_mut(tenant)?;
        let at = line.iter().position(|(known, _)| *known == id)?;
        let (_, item) = line.remove(at)?;
        self.removed_from(tenant);
        Some(item)
    }

    /// The newest of the longest line, if that has more than so many.
    fn pop_longest(&mut self, more_than: usize) -> Option<T> {
        let longest = self
            .turns
            .iter()
            .max_by_key(|tenant| self.lines[*tenant].len())?
            .clone();
        let line = self.lines.get_mut(&longest).filter(|line| line.len() > more_than)?;
        let (_, item) = line.pop_back()?;
        self.removed_from(&longest);
        Some(item)
    }

    fn removed_from(&mut self, tenant: &str) {
        self.len -= 1;
        if self.lines.get(tenant).is_some_and(VecDeque::is_empty) {
            self.lines.remove(tenant);
            self.turns.retain(|known| known != tenant);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Push(bool, u8),
        Pop,
        Leave(usize),
        Room(bool, u8),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (any::<bool>(), 0..4_u8).prop_map(|(front, tenant)| Step::Push(front, tenant)),
            3 => Just(Step::Pop),
            1 => any::<usize>().prop_map(Step::Leave),
            1 => (any::<bool>(), 0..4_u8).prop_map(|(front, tenant)| Step::Room(front, tenant)),
        ];
        proptest::collection::vec(step, 0..120)
    }

    fn priority(front: bool) -> Priority {
        if front {
            Priority::Interactive
        } else {
            Priority::Background
        }
    }

    /// A waiting request.
    #[derive(Debug, Clone)]
    struct Waits {
        ticket: Ticket,
        number: usize,
    }

    proptest! {
        /// Against a plain list of who waits: nobody is lost or served twice, background never goes first, a tenant's
        /// own order is kept, and between two turns of a tenant each other one has at most one.
        #[test]
        fn everyone_has_a_turn(steps in steps()) {
            let mut queue = Queue::default();
            let mut waiting: Vec<Waits> = Vec::new();
            // Since a tenant (of a priority) last had a turn, or began to wait: who was served.
            let mut since: HashMap<(Priority, String), Vec<String>> = HashMap::new();
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Push(front, tenant) => {
                        let (priority, tenant) = (priority(front), tenant.to_string());
                        let ticket = queue.push(priority, &tenant, number);
                        if !waiting.iter().any(|w| w.ticket.priority == priority && w.ticket.tenant == tenant) {
                            since.insert((priority, tenant), Vec::new());
                        }
                        waiting.push(Waits { ticket, number });
                    }
                    Step::Pop => {
                        let Some(served) = queue.pop() else {
                            prop_assert!(waiting.is_empty());
                            continue;
                        };
                        let at = waiting.iter().position(|w| w.number == served).unwrap();
                        let Ticket { priority, tenant, .. } = waiting.remove(at).ticket;
                        let class = |w: &&Waits| w.ticket.priority == priority;
                        if priority == Priority::Background {
                            prop_assert!(!waiting.iter().any(|w| w.ticket.priority == Priority::Interactive));
                        }
                        prop_assert!(!waiting[..at].iter().filter(class).any(|w| w.ticket.tenant == tenant));
                        since.insert((priority, tenant.clone()), Vec::new());
                        let others: HashSet<String> = waiting.iter().filter(class).map(|w| w.ticket.tenant.clone()).collect();
                        for other in others.into_iter().filter(|other| *other != tenant) {
                            let turns = since.get_mut(&(priority, other.clone())).unwrap();
                            prop_assert!(!turns.contains(&tenant), "{tenant} had two turns and {other} none");
                            turns.push(tenant.clone());
                        }
                    }
                    Step::Leave(which) if !waiting.is_empty() => {
                        let left = waiting.remove(which % waiting.len());
                        prop_assert_eq!(queue.remove(&left.ticket), Some(left.number));
                        prop_assert_eq!(queue.remove(&left.ticket), None);
                    }
                    Step::Leave(_) => {}
                    Step::Room(front, tenant) => {
                        let (priority, tenant) = (priority(front), tenant.to_string());
                        let lines = |p: Priority, name: &str| {
                            waiting.iter().filter(|w| w.ticket.priority == p && w.ticket.tenant == name).count()
                        };
                        let own = lines(priority, &tenant);
                        let longest = (0..4).map(|n: u8| lines(priority, &n.to_string())).max().unwrap_or(0);
                        let yields = front && waiting.iter().any(|w| w.ticket.priority == Priority::Background);
                        match queue.make_room(priority, &tenant) {
                            Some(out) => {
                                let at = waiting.iter().position(|w| w.number == out).unwrap();
                                let Ticket { priority: p, tenant: t, .. } = waiting.remove(at).ticket;
                                let fair = if yields { p == Priority::Background } else { t != tenant };
                                prop_assert!(fair);
                            }
                            None => prop_assert!(!yields && longest <= own + 1),
                        }
                    }
                }
                prop_assert_eq!(queue.len(), waiting.len());
                let background = waiting.iter().filter(|w| w.ticket.priority == Priority::Background).count();
                prop_assert_eq!(queue.background(), background);
            }
        }
    }
}
