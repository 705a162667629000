//! The help text, made from the table of options.

use std::fmt::Write;

use super::flags::{FLAGS, Flag, Group, ValueKind};

const WIDTH: usize = 80;
const INDENT: usize = 6;

/// The help (OPT-25, OPT-36).
pub(crate) fn help(version: &str) -> String {
    let mut text = String::from("concurrently [options] <command ...>\n");
    for group in [
        Group::General,
        Group::Prefix,
        Group::Input,
        Group::Killing,
        Group::Restarting,
        Group::Other,
    ] {
        let _ = write!(text, "\n{}:\n", group.title());
        for flag in FLAGS.iter().filter(|flag| flag.group == group) {
            let _ = writeln!(text, "  {}", usage(flag));
            wrap(&mut text, flag.text);
        }
    }
    text.push_str(
        "\nEvery option can be set in the environment: CONCURRENTLY_RESTART_TRIES=-1.\n\
         \nExamples:\n  \
         concurrently \"npm:watch-js\" \"npm:watch-css\"\n  \
         concurrently -n api,web -c auto \"./api --port 80\" \"./web\"\n  \
         concurrently -k -s first \"./server\" \"./tests\"\n  \
         concurrently -P \"echo {1}\" \"other {@}\" -- some \"more words\"\n",
    );
    let _ = write!(
        text,
        "\nFor documentation and more examples, visit:\n\
         https://github.com/open-cli-tools/concurrently/tree/v{version}/docs\n"
    );
    text
}

fn usage(flag: &Flag) -> String {
    let mut names: Vec<String> = flag
        .letters
        .iter()
        .map(|letter| format!("-{letter}"))
        .collect();
    names.push(format!("--{}", flag.name));
    names.extend(flag.aliases.iter().map(|alias| format!("--{alias}")));
    let names = names.join(", ");
    match flag.value {
        ValueKind::One(hint) | ValueKind::Each(hint) => format!("{names} <{hint}>"),
        ValueKind::Switch | ValueKind::Colour => names,
    }
}

fn wrap(text: &mut String, paragraph: &str) {
    let mut column = 0;
    for word in paragraph.split(' ') {
        if column == 0 || column + 1 + word.len() > WIDTH {
            if column > 0 {
                text.push('\n');
            }
            text.push_str(&" ".repeat(INDENT));
            column = INDENT;
        } else {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += word.len();
    }
    text.push('\n');
}
