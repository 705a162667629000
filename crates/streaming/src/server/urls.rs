//! The URLs at which requests are carried out.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use super::request::Request;
use crate::tokens::{Tokens, TooMany};

/// Makes URLs for requests. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Urls {
    tokens: Arc<Mutex<Tokens<Request>>>,
    base: Arc<str>,
}

impl Urls {
    /// URLs that begin with `base`.
    pub(super) fn new(base: String) -> Self {
        Self {
            tokens: Arc::new(Mutex::new(Tokens::new())),
            base: base.into(),
        }
    }

    /// The URL at which the request is carried out: once, within a minute.
    ///
    /// # Errors
    /// When a thousand requests wait already.
    pub fn insert(&self, request: Request) -> Result<String, TooMany> {
        let method = request.method();
        let random = crate::random::bytes();
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let token = tokens.insert(request, random, Instant::now())?;
        Ok(format!("{}/{method}/{token}", self.base))
    }

    /// The request of a token, which is used up.
    pub(super) fn consume(&self, method: &str, token: &str) -> Option<Request> {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let request = tokens.consume(token, Instant::now())?;
        (request.method() == method).then_some(request)
    }
}
