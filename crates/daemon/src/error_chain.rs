//! One line for an error and all its sources.

use std::{error::Error, fmt};

/// Shows an error followed by its sources, joined with `": "`.
///
/// Our own errors never repeat their source in their text, but foreign ones do; a source whose
/// text the line already ends with is left out, so nothing is said twice.
///
/// ```
/// let inner = std::io::Error::other("disk on fire");
/// let outer = std::io::Error::other(inner); // its text is the inner text
/// assert_eq!(daemon::ErrorChain(&outer).to_string(), "disk on fire");
/// ```
#[derive(Clone, Copy)]
pub struct ErrorChain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = self.0.to_string();
        let mut source = self.0.source();
        while let Some(error) = source {
            let text = error.to_string();
            if !text.is_empty() && !line.ends_with(&text) {
                if !line.is_empty() {
                    line.push_str(": ");
                }
                line.push_str(&text);
            }
            source = error.source();
        }
        f.write_str(&line)
    }
}

impl fmt::Debug for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        #[source]
        source: Option<Box<Layer>>,
    }

    fn chain(texts: &[&'static str]) -> Layer {
        let mut layers = texts.iter().rev();
        let last = Layer {
            text: layers.next().unwrap(),
            source: None,
        };
        layers.fold(last, |inner, text| Layer {
            text,
            source: Some(Box::new(inner)),
        })
    }

    #[test]
    fn sources_follow_their_error() {
        let error = chain(&["start pod", "pull image", "connection refused"]);
        assert_eq!(
            ErrorChain(&error).to_string(),
            "start pod: pull image: connection refused"
        );
    }

    #[test]
    fn text_that_an_error_repeats_from_its_source_is_said_once() {
        let error = chain(&["pull: connection refused", "connection refused", "refused"]);
        assert_eq!(ErrorChain(&error).to_string(), "pull: connection refused");
    }
}
