//! The newest record of each container, in order.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use cri_api::v1::ContainerEventType;

use super::{Life, Record};

/// Order of questions to Docker: a later ticket knows more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket {
    number: u64,
    /// When it was drawn; the answer holds all that happened before.
    pub(crate) at: Instant,
}

/// What an update did, for those who wait for events.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Change {
    /// The container; for DELETED as it was last.
    pub(crate) record: Arc<Record>,
    /// What happened, in order.
    pub(crate) events: Vec<ContainerEventType>,
}

/// More than one id begins as asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Several;

/// The cache. Not synchronised; the owner puts it behind a lock that is held for moments.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    entries: BTreeMap<String, Entry>,
    /// Sandbox id to its containers.
    pods: HashMap<String, BTreeSet<String>>,
    /// Ids that are gone, for answers still on their way; emptied as those come in.
    gone: HashMap<String, Ticket>,
    open: BTreeSet<Ticket>,
    last: u64,
}

#[derive(Debug)]
struct Entry {
    record: Arc<Record>,
    ticket: Ticket,
}

impl Cache {
    /// Draws a ticket; to be taken before Docker is asked, and given back through
    /// [`Cache::close`] in any case.
    pub(crate) fn open(&mut self, now: Instant) -> Ticket {
        self.last += 1;
        let ticket = Ticket {
            number: self.last,
            at: now,
        };
        self.open.insert(ticket);
        ticket
    }

    /// Ends the question of `ticket`.
    pub(crate) fn close(&mut self, ticket: Ticket) {
        self.open.remove(&ticket);
        match self.open.first() {
            None => self.gone.clear(),
            Some(oldest) => self.gone.retain(|_, gone| *gone > *oldest),
        }
    }

    /// Takes an answer. `None` when a later one is in already or nothing changed.
    pub(crate) fn put(&mut self, ticket: Ticket, record: Record) -> Option<Change> {
        if self.gone.get(&record.id).is_some_and(|gone| *gone > ticket) {
            return None;
        }
        let before = self.entries.get(&record.id);
        if before.is_some_and(|entry| entry.ticket > ticket) {
            return None;
        }
        let events = transitions(before.map(|entry| &entry.record.life), Some(&record.life));
        let same = before.is_some_and(|entry| *entry.record == record);
        let record = Arc::new(record);
        if let Some(facts) = record.container() {
            self.pods
                .entry(facts.sandbox_id.clone())
                .or_default()
                .insert(record.id.clone());
        }
        self.entries.insert(
            record.id.clone(),
            Entry {
                record: Arc::clone(&record),
                ticket,
            },
        );
        (!same).then_some(Change { record, events })
    }

    /// Notes that a container is gone, as known by `ticket` (drawn now, if Docker said so on its own).
    pub(crate) fn remove(&mut self, ticket: Ticket, id: &str) -> Option<Change> {
        let known = self
            .entries
            .get(id)
            .is_some_and(|entry| entry.ticket <= ticket);
        if !known && self.entries.contains_key(id) {
            return None;
        }
        self.gone.insert(id.to_owned(), ticket);
        let entry = self.entries.remove(id)?;
        if let Some(facts) = entry.record.container()
            && let Some(ids) = self.pods.get_mut(&facts.sandbox_id)
        {
            ids.remove(id);
            if ids.is_empty() {
                self.pods.remove(&facts.sandbox_id);
            }
        }
        let events = transitions(Some(&entry.record.life), None);
        Some(Change {
            record: entry.record,
            events,
        })
    }

    /// One record.
    pub(crate) fn get(&self, id: &str) -> Option<Arc<Record>> {
        self.entries.get(id).map(|entry| Arc::clone(&entry.record))
    }

    /// When the question was asked whose answer is in; what happened before is known.
    pub(crate) fn asked_at(&self, id: &str) -> Option<Instant> {
        self.entries.get(id).map(|entry| entry.ticket.at)
    }

    /// The one id that begins with `prefix`; none begins with nothing.
    ///
    /// # Errors
    /// When several do.
    pub(crate) fn find(&self, prefix: &str) -> Result<Option<Arc<Record>>, Several> {
        if prefix.is_empty() {
            return Ok(None);
        }
        let all = self.entries.range(prefix.to_owned()..);
        let mut found = all.take_while(|(id, _)| id.starts_with(prefix));
        match (found.next(), found.next()) {
            (Some((id, _)), Some(_)) if id != prefix => Err(Several),
            (first, _) => Ok(first.map(|(_, entry)| Arc::clone(&entry.record))),
        }
    }

    /// All records, newest first as Docker lists them (SBX-63).
    pub(crate) fn all(&self) -> Vec<Arc<Record>> {
        let mut all: Vec<_> = self
            .entries
            .values()
            .map(|entry| Arc::clone(&entry.record))
            .collect();
        all.sort_by(|a, b| {
            b.created_at
                .cmp(&a.created_at)
                .then_with(|| a.id.cmp(&b.id))
        });
        all
    }

    /// Containers of a sandbox, oldest first.
    pub(crate) fn containers_of(&self, sandbox: &str) -> Vec<Arc<Record>> {
        let ids = self.pods.get(sandbox).into_iter().flatten();
        let mut all: Vec<_> = ids.filter_map(|id| self.get(id)).collect();
        all.sort_by(|a, b| {
            a.created_at
                .cmp(&b.created_at)
                .then_with(|| a.id.cmp(&b.id))
        });
        all
    }

    /// Ids known before `ticket` was drawn: those that a list asked for with it must contain.
    pub(crate) fn known_before(&self, ticket: Ticket) -> Vec<String> {
        let old = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.ticket < ticket);
        old.map(|(id, _)| id.clone()).collect()
    }
}

/// The events between two looks at a container; steps that nobody saw are told too (UNI-02).
pub(super) fn transitions(before: Option<&Life>, after: Option<&Life>) -> Vec<ContainerEventType> {
    use ContainerEventType::{
        ContainerCreatedEvent as Created, ContainerDeletedEvent as Deleted,
        ContainerStartedEvent as Started, ContainerStoppedEvent as Stopped,
    };
    /// 0 absent, 1 created, 2 running, 3 exited.
    fn stage(life: Option<&Life>) -> u8 {
        match life {
            None => 0,
            Some(Life::Created) => 1,
            Some(Life::Running { .. }) => 2,
            Some(Life::Exited { .. }) => 3,
        }
    }
    let could_not_start = |life: &Life| {
        matches!(
            life,
            Life::Exited {
                reason: "ContainerCannotRun",
                ..
            }
        )
    };
    let Some(now) = after else {
        return match stage(before) {
            0 => Vec::new(),
            2 => vec![Stopped, Deleted],
            _ => vec![Deleted],
        };
    };
    let (from, to) = (stage(before), stage(after));
    let mut events = Vec::new();
    if from == 0 {
        events.push(Created);
    }
    if from == 3 && to == 2 {
        events.push(Started);
    }
    if from < 2 && to >= 2 && !could_not_start(now) {
        events.push(Started);
    }
    if from < 3 && to == 3 {
        events.push(Stopped);
    }
    events
}
