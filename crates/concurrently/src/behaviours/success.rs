//! The rule that decides the exit code (EXT rows).

use super::Ended;

/// Whose end must be a success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SuccessRule {
    All,
    First,
    Last,
    /// Those with this name or index, and there must be one.
    Only(String),
    /// All but those.
    AllBut(String),
}

impl SuccessRule {
    /// As upstream, an unknown word means all.
    pub(crate) fn parse(rule: &str) -> Self {
        let target = |prefix| {
            rule.strip_prefix(prefix)
                .filter(|target: &&str| !target.is_empty())
        };
        if rule == "first" {
            Self::First
        } else if rule == "last" {
            Self::Last
        } else if let Some(target) = target("command-") {
            Self::Only(target.to_owned())
        } else if let Some(target) = target("!command-") {
            Self::AllBut(target.to_owned())
        } else {
            Self::All
        }
    }

    /// Whether the ends, in the order of ending, satisfy the rule. No ends at all do.
    pub(crate) fn holds(&self, ended: &[Ended]) -> bool {
        let (Some(first), Some(last)) = (ended.first(), ended.last()) else {
            return true;
        };
        match self {
            Self::All => ended.iter().all(|end| end.exit.is_success()),
            Self::First => first.exit.is_success(),
            Self::Last => last.exit.is_success(),
            Self::Only(target) => {
                let mut targets = ended.iter().filter(|end| is_target(end, target)).peekable();
                targets.peek().is_some() && targets.all(|end| end.exit.is_success())
            }
            Self::AllBut(target) => ended
                .iter()
                .all(|end| is_target(end, target) || end.exit.is_success()),
        }
    }
}

fn is_target(end: &Ended, target: &str) -> bool {
    end.name == target || target.parse() == Ok(end.index)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{behaviours::Exit, signal::Signal};

    fn end(index: usize, name: &str, exit: Exit) -> Ended {
        Ended {
            index,
            name: name.to_owned(),
            text: String::new(),
            exit,
            killed: false,
            duration: Duration::ZERO,
        }
    }

    #[test]
    fn each_rule_looks_at_its_own_ends() {
        // The second command ended first; the third was killed.
        let ended = [
            end(1, "b", Exit::Code(0)),
            end(0, "a", Exit::Code(3)),
            end(2, "b", Exit::Signal(Signal::TERM)),
        ];
        for (rule, wanted) in [
            ("all", false),
            ("whatever", false),
            ("first", true),
            ("last", false),
            ("command-1", true),
            ("command-0", false),
            ("command-a", false),
            ("command-b", false),
            ("command-7", false),
            ("command-", false),
            ("!command-b", false),
            ("!command-7", false),
        ] {
            assert_eq!(SuccessRule::parse(rule).holds(&ended), wanted, "{rule}");
        }
        assert!(SuccessRule::parse("!command-a").holds(&ended[..2]));
        assert!(SuccessRule::parse("all").holds(&ended[..1]));
    }

    #[test]
    fn nothing_started_is_a_success() {
        assert!(SuccessRule::parse("command-x").holds(&[]));
    }
}
