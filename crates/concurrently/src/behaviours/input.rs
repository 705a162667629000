//! Where lines of standard input go (INP rows).
//!
//! Differs: each line has its own target (INP-02); upstream sends a whole chunk where its first line says.

/// A line longer than this is passed on in parts, all to the target that its beginning names.
pub(crate) const LINE_LIMIT: usize = 64 * 1024;

/// A piece of input and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Routed {
    To(usize, Vec<u8>),
    /// No command has this index or name.
    Nowhere(String),
}

#[derive(Clone, Copy, Debug)]
enum Destination {
    Command(usize),
    Nobody,
}

/// Cuts input into lines and finds their commands.
#[derive(Debug)]
pub(crate) struct Router {
    names: Vec<String>,
    default_target: String,
    line: Vec<u8>,
    /// Where the rest of a long line goes.
    continues: Option<Destination>,
}

impl Router {
    /// `names` of the commands in order; empty for those without.
    pub(crate) fn new(names: Vec<String>, default_target: String) -> Self {
        Self {
            names,
            default_target,
            line: Vec::new(),
            continues: None,
        }
    }

    /// Takes the next bytes as they come; gives the lines that are complete now.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<Routed> {
        let mut routed = Vec::new();
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                self.send(&mut routed);
                self.continues = None;
            } else if self.line.len() >= LINE_LIMIT {
                self.continues = Some(self.send(&mut routed));
            }
        }
        routed
    }

    /// The end of input: gives what has no line break.
    pub(crate) fn finish(&mut self) -> Vec<Routed> {
        let mut routed = Vec::new();
        if !self.line.is_empty() {
            self.send(&mut routed);
        }
        routed
    }

    fn send(&mut self, routed: &mut Vec<Routed>) -> Destination {
        let line = std::mem::take(&mut self.line);
        match self.continues {
            Some(Destination::Command(index)) => {
                routed.push(Routed::To(index, line));
                return Destination::Command(index);
            }
            // It has been said once.
            Some(Destination::Nobody) => return Destination::Nobody,
            None => {}
        }
        // Something must stand behind the colon, if only a line break.
        let colon = line
            .iter()
            .position(|&byte| byte == b':')
            .filter(|&at| at + 1 < line.len());
        let named =
            colon.and_then(|at| Some((self.find(std::str::from_utf8(&line[..at]).ok()?)?, at)));
        let (target, text) = match named {
            Some((index, at)) => (Some(index), line[at + 1..].to_vec()),
            None => (self.find(&self.default_target), line),
        };
        if let Some(index) = target {
            routed.push(Routed::To(index, text));
            return Destination::Command(index);
        }
        routed.push(Routed::Nowhere(self.default_target.clone()));
        Destination::Nobody
    }

    /// Upstream fills one map with each command's index and then its name, so a later command shadows (INP-04).
    fn find(&self, target: &str) -> Option<usize> {
        let by_name = self.names.iter().rposition(|name| name == target);
        let by_index = target
            .parse::<usize>()
            .ok()
            .filter(|index| *index < self.names.len() && index.to_string() == target);
        by_name.max(by_index)
    }
}

/// The line for input that reaches nobody; an empty line of ours follows it, as upstream's does (OUT-07).
pub(crate) fn no_such_command(target: &str) -> String {
    format!("Unable to find command \"{target}\", or it has no stdin open\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router(names: &[&str], default_target: &str) -> Router {
        Router::new(
            names.iter().map(|&name| name.to_owned()).collect(),
            default_target.to_owned(),
        )
    }

    fn to(index: usize, text: &str) -> Routed {
        Routed::To(index, text.as_bytes().to_vec())
    }

    #[test]
    fn each_line_goes_to_the_target_it_names() {
        let mut router = router(&["api", "web"], "0");
        assert_eq!(
            router.push(b"web:reload\n1:x:y\nplain\nfoo:bar\n"),
            [
                to(1, "reload\n"),
                to(1, "x:y\n"),
                to(0, "plain\n"),
                to(0, "foo:bar\n")
            ]
        );
    }

    #[test]
    fn a_line_may_come_in_pieces_and_may_lack_its_end() {
        let mut router = router(&["api", "web"], "web");
        assert_eq!(router.push(b"ap"), []);
        assert_eq!(router.push(b"i:a\nb"), [to(0, "a\n")]);
        assert_eq!(router.finish(), [to(1, "b")]);
        assert_eq!(router.finish(), []);
    }

    #[test]
    fn a_long_line_goes_to_one_target_in_parts() {
        let mut router = router(&["api", "web"], "0");
        let long = [b"web:".to_vec(), vec![b'x'; LINE_LIMIT]].concat();
        assert_eq!(router.push(&long), [Routed::To(1, vec![b'x'; LINE_LIMIT])]);
        assert_eq!(
            router.push(b"api:end\nnext\n"),
            [to(1, "api:end\n"), to(0, "next\n")]
        );
    }

    #[test]
    fn unknown_default_target_is_nowhere() {
        let mut router = router(&["", ""], "9");
        assert_eq!(
            router.push(b"x\n1:y\n"),
            [Routed::Nowhere("9".to_owned()), to(1, "y\n")]
        );
    }

    #[test]
    fn names_shadow_indexes() {
        assert_eq!(router(&["x", "0"], "0").push(b"0:a\n"), [to(1, "a\n")]);
        // Nothing behind the colon: not a target.
        assert_eq!(router(&["x", "y"], "0").push(b"y:"), []);
    }
}
