//! `berth completion SHELL`: completion scripts, made from the tables that the programs parse with.

use std::{ffi::OsString, fmt::Write as _, process::ExitCode};

use crate::{
    output,
    tool::{Completed, EXIT_USAGE, HELP, Tool},
};

/// `berth completion`.
pub(crate) const TOOL: Tool = Tool {
    name: "completion",
    about: "Usage: berth completion bash|zsh|fish

Prints a completion script:
  bash   berth completion bash > /etc/bash_completion.d/berth
  zsh    berth completion zsh > \"${fpath[1]}/_berth\"
  fish   berth completion fish > ~/.config/fish/completions/berth.fish",
    flags: &[HELP],
    describes_node: false,
};

const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];

/// A program with its flags.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it does, in a line.
    pub(crate) about: &'static str,
    /// Its flags.
    pub(crate) flags: Vec<Completed>,
    /// It takes files as words.
    pub(crate) takes_files: bool,
}

/// Runs the tool; `entries` are the programs that are shown, in the order of the help.
pub(crate) fn run(words: &[OsString], entries: &[Entry]) -> ExitCode {
    let word = words.first().map(|word| word.to_string_lossy());
    let text = match word.as_deref() {
        Some("--help" | "-h") => Some(TOOL.help()),
        Some(shell) => script(shell, entries),
        None => None,
    };
    let Some(text) = text else {
        output::complain(&format!("berth completion: name a shell\n\n{}", TOOL.about));
        return ExitCode::from(EXIT_USAGE);
    };
    output::text(&text);
    ExitCode::SUCCESS
}

/// The script for a shell, if it is one of [`SHELLS`].
pub(crate) fn script(shell: &str, entries: &[Entry]) -> Option<String> {
    match shell {
        "bash" => Some(bash(entries)),
        "zsh" => Some(zsh(entries)),
        "fish" => Some(fish(entries)),
        _ => None,
    }
}

/// Flags whose value is a path, so that files are offered.
fn takes_path(flag: &Completed) -> bool {
    [
        "config",
        "config-dir",
        "-dir",
        "-file",
        "-path",
        "-directory",
        "-conf",
    ]
    .iter()
    .any(|end| flag.name.ends_with(end))
}

fn bash(entries: &[Entry]) -> String {
    let names: Vec<&str> = entries.iter().map(|entry| entry.name).collect();
    let mut cases = String::new();
    for entry in entries {
        let words: Vec<String> = entry
            .flags
            .iter()
            .map(|flag| {
                let equals = if flag.takes_value { "=" } else { "" };
                format!("--{}{equals}", flag.name)
            })
            .collect();
        let _ = writeln!(
            cases,
            "    {}) flags=\"{}\" ;;",
            entry.name,
            words.join(" ")
        );
    }
    let mut paths: Vec<String> = entries
        .iter()
        .flat_map(|entry| &entry.flags)
        .filter(|flag| flag.takes_value && takes_path(flag))
        .map(|flag| format!("--{}", flag.name))
        .collect();
    paths.sort();
    paths.dedup();
    let values = paths.join("|");
    format!(
        "# bash completion of berth; made by `berth completion bash`
_berth() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}} program=${{1##*/}} flags=
  local first=1
  if [ \"$program\" = berth ]; then
    if [ \"$COMP_CWORD\" = 1 ]; then
      COMPREPLY=($(compgen -W \"{names}\" -- \"$current\"))
      return
    fi
    program=${{COMP_WORDS[1]}} first=2
  fi
  case $program in
{cases}  esac
  # --flag=value is three words to bash
  if [ \"$current\" = \"=\" ]; then current=; elif [ \"$previous\" = \"=\" ]; then previous=${{COMP_WORDS[COMP_CWORD-2]}}; fi
  if [ \"$program\" = completion ] && [ \"$COMP_CWORD\" = $first ]; then
    COMPREPLY=($(compgen -W \"{shells}\" -- \"$current\"))
    return
  fi
  case $previous in
    {values}) COMPREPLY=($(compgen -f -- \"$current\")); return ;;
  esac
  case $current in
    -*) COMPREPLY=($(compgen -W \"$flags\" -- \"$current\")); [[ ${{COMPREPLY-}} == *= ]] && compopt -o nospace ;;
    *) COMPREPLY=($(compgen -f -- \"$current\")) ;;
  esac
}}
complete -o filenames -F _berth berth kubelet cri-dockerd concurrently
",
        names = names.join(" "),
        shells = SHELLS.join(" "),
    )
}

fn zsh(entries: &[Entry]) -> String {
    let mut programs = String::new();
    for entry in entries {
        let _ = writeln!(programs, "    '{}:{}'", entry.name, zsh_text(entry.about));
    }
    let mut cases = String::new();
    for entry in entries {
        let _ = writeln!(cases, "    {})\n      _arguments \\", entry.name);
        for flag in &entry.flags {
            let text = zsh_text(&flag.text);
            let value = match (flag.takes_value, takes_path(flag)) {
                (false, _) => "",
                (true, true) => ":path:_files",
                (true, false) => ":value:",
            };
            let equals = if flag.takes_value { "=" } else { "" };
            let _ = writeln!(cases, "        '--{}{equals}[{text}]{value}' \\", flag.name);
            if let Some(letter) = flag.letter {
                let _ = writeln!(cases, "        '-{letter}[{text}]{value}' \\");
            }
        }
        let rest = match entry.name {
            "completion" => format!("'1:shell:({})'", SHELLS.join(" ")),
            _ if entry.takes_files => "'*:manifest:_files'".to_owned(),
            _ => "'*:argument:_files'".to_owned(),
        };
        let _ = writeln!(cases, "        {rest} ;;");
    }
    format!(
        "#compdef berth kubelet cri-dockerd concurrently
# zsh completion of berth; made by `berth completion zsh`
_berth() {{
  local program=$service
  local -a programs
  programs=(
{programs}  )
  if [[ $program == berth ]]; then
    if (( CURRENT == 2 )); then
      _describe program programs
      return
    fi
    program=$words[2]
    shift words
    (( CURRENT-- ))
  fi
  case $program in
{cases}  esac
}}
_berth \"$@\"
"
    )
}

/// Without what means something inside `'...[...]...'`.
fn zsh_text(text: &str) -> String {
    let plain = text
        .replace(['\'', '`', '"'], "")
        .replace(['[', ']'], "|")
        .replace(':', ",");
    plain.chars().take(100).collect()
}

fn fish(entries: &[Entry]) -> String {
    let mut script = String::from(
        "# fish completion of berth; made by `berth completion fish`\n\
         complete -c berth -f\n",
    );
    for entry in entries {
        let about = fish_text(entry.about);
        let _ = writeln!(
            script,
            "complete -c berth -n __fish_use_subcommand -a {} -d '{about}'",
            entry.name
        );
    }
    for entry in entries {
        let chosen = format!("-c berth -n '__fish_seen_subcommand_from {}'", entry.name);
        let linked = matches!(entry.name, "kubelet" | "cri-dockerd" | "concurrently");
        let places: Vec<String> = std::iter::once(chosen)
            .chain(linked.then(|| format!("-c {}", entry.name)))
            .collect();
        for place in &places {
            for flag in &entry.flags {
                let letter = flag
                    .letter
                    .map(|letter| format!(" -s {letter}"))
                    .unwrap_or_default();
                let value = match (flag.takes_value, takes_path(flag)) {
                    (false, _) => "",
                    (true, true) => " -r -F",
                    (true, false) => " -x",
                };
                let text = fish_text(&flag.text);
                let _ = writeln!(
                    script,
                    "complete {place} -l {}{letter}{value} -d '{text}'",
                    flag.name
                );
            }
            if entry.takes_files {
                let _ = writeln!(script, "complete {place} -F");
            }
            if entry.name == "completion" {
                let _ = writeln!(script, "complete {place} -a '{}'", SHELLS.join(" "));
            }
        }
    }
    script
}

fn fish_text(text: &str) -> String {
    text.replace(['\\', '\''], "").chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_cannot_end_their_quotes() {
        assert_eq!(zsh_text("it's [a]: `b`"), "its |a|, b");
        assert_eq!(fish_text("it's \\x"), "its x");
    }
}
