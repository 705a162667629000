//! Pairs of streams: each forwarded connection has one for data and one for errors, which find each
//! other by the request's id (PFW-01, PFW-02). Pure.

use std::{collections::HashMap, num::NonZeroU16, time::Duration};

use tokio::time::Instant;

use crate::spdy::Headers;

/// What a stream of a port-forward is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Role {
    pub(crate) kind: Kind,
    pub(crate) port: NonZeroU16,
    /// Names the pair.
    pub(crate) request: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Data,
    Error,
}

/// Reads a stream's headers; `None` when it must be refused.
pub(crate) fn role(id: u32, headers: &Headers) -> Option<Role> {
    let port = headers.get("port")?.parse().ok()?;
    let kind = match headers.get("streamtype")? {
        "data" => Kind::Data,
        "error" => Kind::Error,
        _ => return None,
    };
    let request = match headers.get("requestid").filter(|text| !text.is_empty()) {
        Some(request) => request.to_owned(),
        // Clients of long ago: the error stream comes first, the data stream next.
        None if kind == Kind::Error => id.to_string(),
        None => id.wrapping_sub(2).to_string(),
    };
    Some(Role {
        kind,
        port,
        request,
    })
}

/// Streams whose other half is still to come.
#[derive(Debug)]
pub(crate) struct Pairs<T> {
    waiting: HashMap<String, Half<T>>,
    patience: Duration,
}

#[derive(Debug)]
struct Half<T> {
    kind: Kind,
    stream: T,
    until: Instant,
}

/// What a stream did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Added<T> {
    /// It waits for its other half.
    Waits,
    /// It was the other half.
    Pair { data: T, error: T },
    /// Its pair has such a stream already. The text is for the pair's error stream, if that is the
    /// one that waits.
    Twice { stream: T, text: String },
}

impl<T> Pairs<T> {
    /// No streams yet; each is waited for as long as `patience`.
    pub(crate) fn new(patience: Duration) -> Self {
        Self {
            waiting: HashMap::new(),
            patience,
        }
    }

    /// Adds a stream that came at `now`.
    pub(crate) fn add(&mut self, role: &Role, stream: T, now: Instant) -> Added<T> {
        match self.waiting.remove(&role.request) {
            None => {
                let half = Half {
                    kind: role.kind,
                    stream,
                    until: now + self.patience,
                };
                self.waiting.insert(role.request.clone(), half);
                Added::Waits
            }
            Some(half) if half.kind == role.kind => {
                self.waiting.insert(role.request.clone(), half);
                let kind = match role.kind {
                    Kind::Data => "data",
                    Kind::Error => "error",
                };
                let text = format!(
                    "error processing stream for request {}: {kind} stream already assigned",
                    role.request
                );
                Added::Twice { stream, text }
            }
            Some(half) => match role.kind {
                Kind::Data => Added::Pair {
                    data: stream,
                    error: half.stream,
                },
                Kind::Error => Added::Pair {
                    data: half.stream,
                    error: stream,
                },
            },
        }
    }

    /// Drops those that are of no use any more.
    pub(crate) fn retain(&mut self, mut is_of_use: impl FnMut(&T) -> bool) {
        self.waiting.retain(|_, half| is_of_use(&half.stream));
    }

    /// The error stream that waits under a request's id.
    pub(crate) fn error_stream(&self, request: &str) -> Option<&T> {
        let half = self.waiting.get(request)?;
        (half.kind == Kind::Error).then_some(&half.stream)
    }

    /// When the first of them has waited long enough.
    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        self.waiting.values().map(|half| half.until).min()
    }

    /// Takes out those that have waited too long: the id of the request, and which stream came.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<(String, Kind, T)> {
        self.waiting
            .extract_if(|_, half| half.until <= now)
            .map(|(request, half)| (request, half.kind, half.stream))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(kind: &str, port: &str, request: Option<&str>) -> Headers {
        let headers = Headers::new().with("streamType", kind).with("port", port);
        match request {
            Some(id) => headers.with("requestID", id),
            None => headers,
        }
    }

    #[test]
    fn streams_without_sense_are_refused() {
        for (kind, port) in [
            ("data", "0"),
            ("data", "65536"),
            ("data", "x"),
            ("data", ""),
            ("stdin", "80"),
        ] {
            assert_eq!(
                role(1, &headers(kind, port, Some("0"))),
                None,
                "{kind} {port}"
            );
        }
        assert_eq!(role(1, &Headers::new()), None);
    }

    #[test]
    fn halves_find_each_other_in_either_order_and_without_ids() {
        let now = Instant::now();
        let mut pairs = Pairs::new(Duration::from_secs(30));
        let data = role(1, &headers("data", "80", Some("a"))).unwrap();
        let error = role(3, &headers("error", "80", Some("a"))).unwrap();
        assert_eq!(pairs.add(&data, 1, now), Added::Waits);
        assert_eq!(pairs.add(&error, 3, now), Added::Pair { data: 1, error: 3 });
        let error = role(5, &headers("error", "80", None)).unwrap();
        let data = role(7, &headers("data", "80", None)).unwrap();
        assert_eq!(pairs.add(&error, 5, now), Added::Waits);
        assert_eq!(pairs.add(&data, 7, now), Added::Pair { data: 7, error: 5 });
        assert_eq!(pairs.next_expiry(), None);
    }

    #[test]
    fn second_stream_of_a_kind_and_a_late_one_are_told() {
        let now = Instant::now();
        let mut pairs = Pairs::new(Duration::from_secs(30));
        let error = role(1, &headers("error", "80", Some("7"))).unwrap();
        pairs.add(&error, 1, now);
        let Added::Twice { stream: 3, text } = pairs.add(&error, 3, now) else {
            panic!();
        };
        assert_eq!(
            text,
            "error processing stream for request 7: error stream already assigned"
        );
        assert_eq!(pairs.error_stream("7"), Some(&1));
        pairs.retain(|stream| *stream == 1);
        assert_eq!(pairs.error_stream("7"), Some(&1));
        let late = pairs.next_expiry().unwrap();
        assert!(pairs.expire(now).is_empty());
        assert_eq!(pairs.expire(late), [("7".to_owned(), Kind::Error, 1)]);
        pairs.add(&error, 5, now);
        pairs.retain(|stream| *stream == 1);
        assert_eq!(pairs.next_expiry(), None);
    }
}
