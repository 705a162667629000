//! Requests that wait for their connection, each behind a token that works once (STR-02). Pure.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

/// How long a token is good.
pub(crate) const LIFETIME: Duration = Duration::from_mins(1);
/// Requests that may wait at once.
pub(crate) const MOST: usize = 1000;

/// Too many requests wait; the text is upstream's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("maximum number of in-flight requests exceeded")]
pub struct TooMany;

/// The waiting requests, oldest first.
#[derive(Debug)]
pub(crate) struct Tokens<T> {
    waiting: VecDeque<Waiting<T>>,
}

#[derive(Debug)]
struct Waiting<T> {
    token: String,
    request: T,
    expires: Instant,
}

impl<T> Tokens<T> {
    pub(crate) fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
        }
    }

    /// Keeps a request under a token made of `random`, eight characters long, or of the next number
    /// that is free.
    ///
    /// # Errors
    /// When [`MOST`] wait already.
    pub(crate) fn insert(
        &mut self,
        request: T,
        random: [u8; 6],
        now: Instant,
    ) -> Result<String, TooMany> {
        while self.waiting.front().is_some_and(|w| now > w.expires) {
            self.waiting.pop_front();
        }
        if self.waiting.len() >= MOST {
            return Err(TooMany);
        }
        let mut random = random;
        let token = loop {
            let token = URL_SAFE_NO_PAD.encode(random);
            if self.waiting.iter().all(|w| w.token != token) {
                break token;
            }
            random[5] = random[5].wrapping_add(1);
            if random[5] == 0 {
                random[4] = random[4].wrapping_add(1);
            }
        };
        self.waiting.push_back(Waiting {
            token: token.clone(),
            request,
            expires: now + LIFETIME,
        });
        Ok(token)
    }

    /// The request behind a token, once, unless it waited too long.
    pub(crate) fn consume(&mut self, token: &str, now: Instant) -> Option<T> {
        let place = self.waiting.iter().position(|w| w.token == token)?;
        let waiting = self.waiting.remove(place)?;
        (now <= waiting.expires).then_some(waiting.request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_works_once_and_not_for_ever() {
        let mut tokens = Tokens::new();
        let now = Instant::now();
        let a = tokens.insert('a', [1; 6], now).unwrap();
        let b = tokens.insert('b', [1; 6], now).unwrap();
        assert_ne!(a, b);
        for token in [&a, &b] {
            assert_eq!(token.len(), 8);
            assert!(
                token
                    .bytes()
                    .all(|c| c.is_ascii_alphanumeric() || b"-_".contains(&c))
            );
        }
        assert_eq!(tokens.consume(&a, now + LIFETIME), Some('a'));
        assert_eq!(tokens.consume(&a, now), None);
        let late = now + LIFETIME + Duration::from_nanos(1);
        assert_eq!(tokens.consume(&b, late), None);
        assert_eq!(tokens.waiting.len(), 0);
    }

    #[test]
    fn no_more_wait_than_may() {
        let mut tokens = Tokens::new();
        let now = Instant::now();
        let first = tokens.insert(0, [0; 6], now).unwrap();
        for number in 1..MOST {
            tokens.insert(number, [0; 6], now).unwrap();
        }
        assert_eq!(tokens.insert(1, [0; 6], now), Err(TooMany));
        assert_eq!(tokens.consume(&first, now), Some(0));
        tokens.insert(1, [0; 6], now).unwrap();
        let late = now + LIFETIME * 2;
        tokens.insert(1, [0; 6], late).unwrap();
        assert_eq!(tokens.waiting.len(), 1);
    }
}
