//! The table of options (OPT rows).

/// What an option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    /// On or off; `--no-NAME`, `--NAME=false` and `--NAME false` switch it off.
    Switch,
    /// One value; the last one given counts. The text says what it looks like.
    One(&'static str),
    /// One value each time it is given, all of them count.
    Each(&'static str),
    /// A value only when attached with `=`; read by the colour detection from the arguments as they are.
    Colour,
}

/// Headings of the help (OPT-36).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// What runs and what counts as success.
    General,
    /// What stands before each line.
    Prefix,
    /// Standard input.
    Input,
    /// Ending the others.
    Killing,
    /// Starting again.
    Restarting,
    /// Help and version.
    Other,
    /// Accepted, not shown.
    Hidden,
}

impl Group {
    /// The heading as shown in the help.
    pub fn title(self) -> &'static str {
        match self {
            Self::General => "General",
            Self::Prefix => "Prefix styling",
            Self::Input => "Input handling",
            Self::Killing => "Killing other processes",
            Self::Restarting => "Restarting",
            Self::Other => "Options",
            Self::Hidden => "",
        }
    }
}

/// One option.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Long name without the dashes, in kebab case; camel case is understood too (OPT-34).
    pub name: &'static str,
    /// Letters.
    pub letters: &'static [char],
    /// Further long names.
    pub aliases: &'static [&'static str],
    /// What it takes.
    pub value: ValueKind,
    /// Where the help shows it.
    pub group: Group,
    /// What it does, with its default.
    pub text: &'static str,
}

impl Flag {
    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        FLAGS
            .iter()
            .find(|flag| flag.name == name || flag.aliases.contains(&name))
    }

    pub(crate) fn find_letter(letter: char) -> Option<&'static Self> {
        FLAGS.iter().find(|flag| flag.letters.contains(&letter))
    }

    /// Every spelling: long names, then letters.
    pub(crate) fn spellings(&self) -> impl Iterator<Item = String> {
        std::iter::once(self.name)
            .chain(self.aliases.iter().copied())
            .map(str::to_owned)
            .chain(self.letters.iter().map(ToString::to_string))
    }
}

const fn flag(
    name: &'static str,
    letters: &'static [char],
    value: ValueKind,
    group: Group,
    text: &'static str,
) -> Flag {
    Flag {
        name,
        letters,
        aliases: &[],
        value,
        group,
        text,
    }
}

use ValueKind::{Colour, Each, One, Switch};

/// Every option there is.
pub const FLAGS: &[Flag] = &[
    flag(
        "max-processes",
        &['m'],
        One("N or N%"),
        Group::General,
        "Run at most this many commands at a time, or this share of the processors. The next one starts when one \
         has ended for good. Default: all.",
    ),
    flag(
        "names",
        &['n'],
        One("LIST"),
        Group::General,
        "Names of the commands, in order, between commas.",
    ),
    flag(
        "name-separator",
        &[],
        One("TEXT"),
        Group::General,
        "What stands between the names instead of a comma. Deprecated.",
    ),
    flag(
        "success",
        &['s'],
        One("RULE"),
        Group::General,
        "Whose exit code must be 0 for exit code 0: first, last (by time of ending), all, command-X (those with \
         this name or index) or !command-X (all but those). Default: all.",
    ),
    flag(
        "raw",
        &['r'],
        Switch,
        Group::General,
        "No prefixes and no lines of our own; the commands share our input and output.",
    ),
    flag(
        "hide",
        &[],
        One("LIST"),
        Group::General,
        "Drop the output of these commands (names or indexes).",
    ),
    flag(
        "group",
        &['g'],
        Switch,
        Group::General,
        "Show outputs as if the commands ran one after another.",
    ),
    flag(
        "timings",
        &[],
        Switch,
        Group::General,
        "Show when commands start and stop, and a table at the end.",
    ),
    flag(
        "passthrough-arguments",
        &['P'],
        Switch,
        Group::General,
        "Words after -- are values for {1}, {@} (each one a word) and {*} (all in one word) in the commands, instead \
         of being commands.",
    ),
    flag(
        "teardown",
        &[],
        Each("COMMAND"),
        Group::General,
        "Run this when all commands have ended; can be given more than once. Does not change the exit code.",
    ),
    flag(
        "prefix",
        &['p'],
        One("KIND or TEMPLATE"),
        Group::Prefix,
        "index, pid, time, command, name, none, or a template such as {time}-{pid}. Default: the name if there is \
         one, else the index.",
    ),
    flag(
        "prefix-colors",
        &['c'],
        One("LIST"),
        Group::Prefix,
        "Colours of the prefixes between commas, the last one repeats: names (red, cyanBright, bgBlue, with bold, \
         dim, italic, underline, inverse, hidden, strikethrough joined by dots), #rrggbb, or auto. Default: reset.",
    ),
    flag(
        "prefix-length",
        &['l'],
        One("N"),
        Group::Prefix,
        "Shorten the command in a command prefix to this many characters. Default: 10.",
    ),
    flag(
        "timestamp-format",
        &['t'],
        One("FORMAT"),
        Group::Prefix,
        "Unicode date pattern for local time. Default: yyyy-MM-dd HH:mm:ss.SSS.",
    ),
    flag(
        "pad-prefix",
        &[],
        Switch,
        Group::Prefix,
        "Make all prefixes as long as the longest.",
    ),
    flag("no-color", &[], Colour, Group::Prefix, "No colours."),
    flag(
        "handle-input",
        &['i'],
        Switch,
        Group::Input,
        "Send each line of standard input to a command: TARGET:TEXT to that name or index, other lines to the \
         default target.",
    ),
    flag(
        "default-input-target",
        &[],
        One("NAME or INDEX"),
        Group::Input,
        "Where lines without a target go. Default: 0.",
    ),
    flag(
        "kill-others",
        &['k'],
        Switch,
        Group::Killing,
        "When one command ends, end the others.",
    ),
    flag(
        "kill-others-on-fail",
        &[],
        Switch,
        Group::Killing,
        "When one command fails, end the others.",
    ),
    Flag {
        name: "kill-signal",
        letters: &[],
        aliases: &["ks"],
        value: One("SIGNAL"),
        group: Group::Killing,
        text: "Signal that ends the others. Default: SIGTERM.",
    },
    flag(
        "kill-timeout",
        &[],
        One("MS"),
        Group::Killing,
        "Follow with SIGKILL after this many milliseconds; also when a signal ends everything.",
    ),
    flag(
        "stop-grace",
        &[],
        One("MS"),
        Group::Killing,
        "A signal stops the commands one by one, the last listed first; go on to the next after this many \
         milliseconds even if one has not ended yet. Default: 4000.",
    ),
    flag(
        "restart-tries",
        &[],
        One("N"),
        Group::Restarting,
        "Restart a command that failed up to N times; a negative number means without end. Default: 0.",
    ),
    flag(
        "restart-after",
        &[],
        One("MS or exponential"),
        Group::Restarting,
        "Wait before a restart: milliseconds, or 1, 2, 4... seconds up to 30, from the start again after 60 good \
         seconds. Default: 0.",
    ),
    flag("help", &['h'], Switch, Group::Other, "Show this."),
    flag(
        "version",
        &['v', 'V'],
        Switch,
        Group::Other,
        "Show the version.",
    ),
    Flag {
        name: "color",
        letters: &[],
        aliases: &["colors", "no-colors"],
        value: Colour,
        group: Group::Hidden,
        text: "Colours even if standard output is no terminal: --color, --color=256, --color=16m.",
    },
];
