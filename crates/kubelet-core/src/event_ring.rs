//! The newest events, joined as upstream joins them before it sends them to an API server
//! (Kubernetes client-go, `EventCorrelator`; kubelet CONN-53): equal ones are counted, many that
//! differ in their text alone become one, and an object that has too much to say is not listened to
//! for a while. Bounded in number and size.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Events kept.
pub const CAPACITY: usize = 512;
/// Longest text kept, in bytes, as the API allows.
pub const MAX_MESSAGE_BYTES: usize = 1024;
/// From so many different texts on, events of one object and reason become one.
const JOINED_FROM: usize = 10;
/// Texts that are further apart than this, in seconds, are not joined.
const JOIN_SECONDS: i64 = 600;
/// Events that one object may have at once.
const BURST: i64 = 25;
/// One more each so many seconds.
const REFILL_SECONDS: i64 = 300;
/// Objects and reasons remembered for joining; the longest silent is forgotten first.
const REMEMBERED: usize = 1024;

/// What happened to what.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// `Pod` or `Node`.
    pub kind: String,
    /// Namespace; empty for a node.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// `spec.containers{name}` where one container is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field_path: Option<String>,
    /// `Normal` or `Warning`.
    #[serde(rename = "type")]
    pub type_: String,
    /// One word.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

/// An event and when it was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeenEvent {
    /// The event; of joined ones the newest text.
    #[serde(flatten)]
    pub event: Event,
    /// How often.
    pub count: u32,
    /// First seen, in seconds since the epoch.
    pub first_seconds: i64,
    /// Last seen, in seconds since the epoch.
    pub last_seconds: i64,
    /// Whether it stands for several that differ in their text.
    #[serde(default)]
    pub joined: bool,
}

/// Everything of an event but its text and container.
type Group = (String, String, String, String, String);
/// An object.
type Object = (String, String);

#[derive(Debug)]
struct Similar {
    messages: BTreeSet<String>,
    last_seconds: i64,
}

#[derive(Debug)]
struct Budget {
    left: i64,
    since_seconds: i64,
}

/// The ring.
#[derive(Debug, Default)]
pub struct EventRing {
    /// The last seen comes last.
    seen: VecDeque<SeenEvent>,
    similar: BTreeMap<Group, Similar>,
    budgets: BTreeMap<Object, Budget>,
}

impl EventRing {
    /// A ring with the events of an earlier process.
    pub fn with(seen: impl IntoIterator<Item = SeenEvent>) -> Self {
        let mut seen: VecDeque<_> = seen.into_iter().collect();
        while seen.len() > CAPACITY {
            seen.pop_front();
        }
        Self {
            seen,
            ..Self::default()
        }
    }

    /// All events, the last seen last.
    pub fn events(&self) -> impl Iterator<Item = &SeenEvent> {
        self.seen.iter()
    }

    /// Takes an event. False: its object had too much to say, nothing has changed.
    pub fn record(&mut self, mut event: Event, now: Timestamp) -> bool {
        let now = now.as_second();
        event
            .message
            .truncate(event.message.floor_char_boundary(MAX_MESSAGE_BYTES));
        let joined = self.is_one_of_many(&event, now);
        if joined {
            event.message = format!("(combined from similar events): {}", event.message);
        }
        if !self.spend(&event, now) {
            return false;
        }
        let same = self.seen.iter().position(|seen| {
            if joined {
                seen.joined && group(&seen.event) == group(&event)
            } else {
                !seen.joined && seen.event == event
            }
        });
        let seen = match same.and_then(|index| self.seen.remove(index)) {
            Some(before) => SeenEvent {
                event,
                count: before.count.saturating_add(1),
                last_seconds: now,
                ..before
            },
            None => SeenEvent {
                event,
                count: 1,
                first_seconds: now,
                last_seconds: now,
                joined,
            },
        };
        if self.seen.len() >= CAPACITY {
            self.seen.pop_front();
        }
        self.seen.push_back(seen);
        true
    }

    fn is_one_of_many(&mut self, event: &Event, now: i64) -> bool {
        let key = group(event);
        if self.similar.len() >= REMEMBERED && !self.similar.contains_key(&key) {
            forget_oldest(&mut self.similar, |similar| similar.last_seconds);
        }
        let similar = self.similar.entry(key).or_insert_with(|| Similar {
            messages: BTreeSet::new(),
            last_seconds: now,
        });
        if now - similar.last_seconds > JOIN_SECONDS {
            similar.messages.clear();
        }
        similar.last_seconds = now;
        similar.messages.insert(event.message.clone());
        if similar.messages.len() < JOINED_FROM {
            return false;
        }
        similar.messages.pop_first();
        true
    }

    fn spend(&mut self, event: &Event, now: i64) -> bool {
        let key = (event.kind.clone(), event.uid.clone());
        if self.budgets.len() >= REMEMBERED && !self.budgets.contains_key(&key) {
            forget_oldest(&mut self.budgets, |budget| budget.since_seconds);
        }
        let budget = self.budgets.entry(key).or_insert(Budget {
            left: BURST,
            since_seconds: now,
        });
        // A clock that was set back takes nothing away.
        budget.since_seconds = budget.since_seconds.min(now);
        let refills = (now - budget.since_seconds) / REFILL_SECONDS;
        if refills > 0 {
            budget.left = budget.left.saturating_add(refills).min(BURST);
            budget.since_seconds += refills * REFILL_SECONDS;
        }
        if budget.left == 0 {
            return false;
        }
        budget.left -= 1;
        true
    }
}

fn group(event: &Event) -> Group {
    (
        event.kind.clone(),
        format!("{}/{}", event.namespace, event.name),
        event.uid.clone(),
        event.type_.clone(),
        event.reason.clone(),
    )
}

fn forget_oldest<K: Ord + Clone, V>(map: &mut BTreeMap<K, V>, age: impl Fn(&V) -> i64) {
    let oldest = map.iter().min_by_key(|(_, value)| age(value));
    if let Some(key) = oldest.map(|(key, _)| key.clone()) {
        map.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(uid: &str, reason: &str, message: &str) -> Event {
        Event {
            kind: "Pod".to_owned(),
            namespace: "default".to_owned(),
            name: uid.to_owned(),
            uid: uid.to_owned(),
            field_path: None,
            type_: "Normal".to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn an_object_is_heard_again_though_the_clock_was_set_back() {
        let mut ring = EventRing::default();
        let mut record = |second, n| ring.record(event("a", "Pulled", &format!("{n}")), at(second));
        for n in 0..BURST {
            assert!(record(1_000_000, n));
        }
        assert!(!record(1_000_000, BURST));
        assert!(!record(1000, BURST));
        assert!(record(1000 + REFILL_SECONDS, BURST));
    }

    #[test]
    fn equal_events_are_counted() {
        let mut ring = EventRing::default();
        for second in [1, 5, 9] {
            assert!(ring.record(event("a", "Pulled", "x"), at(second)));
        }
        assert!(ring.record(event("a", "Pulled", "y"), at(10)));
        let seen: Vec<_> = ring.events().collect();
        assert_eq!(seen.len(), 2);
        let first = seen[0];
        assert_eq!(
            (first.count, first.first_seconds, first.last_seconds),
            (3, 1, 9)
        );
    }

    #[test]
    fn many_texts_of_one_reason_become_one_event() {
        let mut ring = EventRing::default();
        for number in 0..15 {
            ring.record(event("a", "Failed", &format!("text {number}")), at(number));
        }
        let last = ring.events().last().unwrap();
        assert_eq!(ring.events().count(), 10);
        assert_eq!(
            last.event.message,
            "(combined from similar events): text 14"
        );
        assert_eq!(last.count, 6);
        // Ten minutes of silence, and texts count for themselves again.
        ring.record(event("a", "Failed", "later"), at(14 + 601));
        assert_eq!(ring.events().last().unwrap().event.message, "later");
    }

    #[test]
    fn an_object_that_says_too_much_is_heard_again_later() {
        let mut ring = EventRing::default();
        let heard = |ring: &mut EventRing, second| ring.record(event("a", "X", "x"), at(second));
        let taken = (0..40).filter(|_| heard(&mut ring, 0)).count();
        assert_eq!(taken, 25);
        assert!(ring.record(event("b", "X", "x"), at(0)));
        assert!(!heard(&mut ring, 299));
        assert!(heard(&mut ring, 300));
        assert!(!heard(&mut ring, 301));
    }

    proptest! {
        #[test]
        fn the_ring_is_bounded_and_ordered_whatever_is_recorded(
            events in proptest::collection::vec((0..700_u32, 0..30_u32, 0..100_i64), 0..900),
        ) {
            let mut ring = EventRing::default();
            let mut now = 0;
            for (uid, text, wait) in events {
                now += wait;
                let text = "x".repeat(usize::try_from(text).unwrap() * 50);
                ring.record(event(&uid.to_string(), "R", &text), at(now));
            }
            prop_assert!(ring.events().count() <= CAPACITY);
            prop_assert!(ring.similar.len() <= REMEMBERED && ring.budgets.len() <= REMEMBERED);
            let times: Vec<i64> = ring.events().map(|seen| seen.last_seconds).collect();
            prop_assert!(times.is_sorted());
            prop_assert!(ring.events().all(|seen| seen.event.message.len() <= MAX_MESSAGE_BYTES + 40));
            // What is written is read back.
            let text = serde_json::to_string(&ring.events().collect::<Vec<_>>()).unwrap();
            let back: Vec<SeenEvent> = serde_json::from_str(&text).unwrap();
            let again = EventRing::with(back);
            prop_assert!(again.events().eq(ring.events()));
        }
    }
}
