//! Events to nodes: the tree of the first document, aliases resolved to the node they name.

use std::collections::HashMap;
use std::io::{BufReader, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};

use libyaml_safer::{Event, EventData, Mark, Parser, ScalarStyle, VersionDirective};

use super::Limits;
use super::error::{Position, Problem, YamlError};

/// What the scanner is given at a time; it keeps four bytes for each of them.
const CHUNK: usize = 4096;

/// Index of a node in [`Nodes`].
pub(super) type Id = usize;

/// One document. Without any, `root` is `None`.
pub(super) struct Nodes {
    pub(super) root: Option<Id>,
    all: Vec<Node>,
    /// Where another document follows that is not empty.
    pub(super) further: Option<Position>,
}

impl Nodes {
    pub(super) fn get(&self, id: Id) -> &Node {
        &self.all[id]
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }
}

pub(super) struct Node {
    pub(super) at: Position,
    pub(super) kind: Kind,
}

pub(super) enum Kind {
    Scalar(Scalar),
    Sequence(Vec<Id>),
    /// Key, value, key, value...
    Mapping(Vec<Id>),
}

pub(super) struct Scalar {
    pub(super) text: String,
    /// Without a tag its looks decide: neither quoted nor a block, or tagged `!`.
    pub(super) plain: bool,
    /// Explicit tag, `!!x` for those of YAML itself.
    pub(super) tag: Option<String>,
}

/// Reads events up to the end of the first document.
pub(super) fn parse(text: &str, limits: Limits) -> Result<Nodes, YamlError> {
    // libyaml-safer 0.3.0 has a place that panics (`[!tag,x]`), where upstream refuses the document.
    let read = || refuse_escaped_slash(text, limits).and_then(|()| documents(text, limits));
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| {
        Err(YamlError {
            at: None,
            problem: Problem::Syntax("a tag or another token ends in an unexpected way".to_owned()),
        })
    })
}

/// What the library takes for a slash and upstream's does not know: that is told where it stands, by a text that
/// differs in nothing else.
fn refuse_escaped_slash(text: &str, limits: Limits) -> Result<(), YamlError> {
    if text.contains("\\/") {
        documents(&text.replace("\\/", "\\z"), limits)?;
    }
    Ok(())
}

fn documents(text: &str, limits: Limits) -> Result<Nodes, YamlError> {
    let mut builder = Builder {
        limits,
        nodes: Vec::new(),
        anchors: HashMap::new(),
        open: Vec::new(),
        further: None,
    };
    let mut parser = Parser::new();
    // The scanner panics where a block scalar ends without a line break; it gets one.
    let last_line = text.rsplit(['\n', '\r']).next().unwrap_or_default();
    let end = if last_line.is_empty() { "" } else { "\n" };
    let input = text.as_bytes().chain(end.as_bytes());
    parser.set_input(BufReader::with_capacity(CHUNK, input));
    let mut root = None;
    loop {
        let mut event = parser.parse().map_err(|error| syntax(&error))?;
        if !end.is_empty() && event.end_mark.index > text.len() as u64 {
            take_back(&mut event, last_line);
        }
        match event.data {
            EventData::StreamEnd => break,
            // `go.yaml.in/yaml/v2` knows version 1.1 alone.
            EventData::DocumentStart {
                version_directive: Some(VersionDirective { minor: 2, .. }),
                ..
            } => {
                let problem = Problem::Syntax("found incompatible YAML document".to_owned());
                return Err(YamlError::at(position(event.start_mark), problem));
            }
            EventData::DocumentEnd { .. } => {
                builder.further = further(&mut parser);
                break;
            }
            _ => {}
        }
        if let Some(id) = builder.take(event)? {
            root = root.or(Some(id));
        }
    }
    Ok(Nodes {
        root,
        all: builder.nodes,
        further: builder.further,
    })
}

/// Takes the line break that was added to the text out of a block scalar; `|-` has none. A blank last line is
/// part of it only where it is indented more.
fn take_back(event: &mut Event, last_line: &str) {
    if let EventData::Scalar {
        value,
        style: ScalarStyle::Literal | ScalarStyle::Folded,
        ..
    } = &mut event.data
        && let Some(before) = value.strip_suffix('\n')
    {
        let blank = |line: &str| line.trim_matches([' ', '\t']).is_empty();
        let last = before.rsplit('\n').next().unwrap_or_default();
        if !blank(last_line) || blank(last) {
            value.pop();
        }
    }
}

/// Whether anything but the end and empty documents follows; nothing of it is an error.
fn further<R: Read>(parser: &mut Parser<BufReader<R>>) -> Option<Position> {
    let mut begin = None;
    loop {
        match parser.parse() {
            Ok(event) => match event.data {
                EventData::StreamEnd => return None,
                EventData::DocumentStart { .. } => begin = Some(position(event.start_mark)),
                EventData::DocumentEnd { .. } => {}
                EventData::Scalar { value, .. } if value.is_empty() => {}
                _ => return begin,
            },
            Err(error) => return begin.or_else(|| error.problem_mark().map(position)),
        }
    }
}

fn syntax(error: &libyaml_safer::Error) -> YamlError {
    let context = error.context().map(|context| format!("{context}, "));
    let text = format!("{}{}", context.unwrap_or_default(), error.problem());
    YamlError {
        at: error.problem_mark().map(position),
        problem: Problem::Syntax(text),
    }
}

struct Builder {
    limits: Limits,
    nodes: Vec<Node>,
    anchors: HashMap<String, Id>,
    /// The lists and maps around the next node.
    open: Vec<Id>,
    further: Option<Position>,
}

impl Builder {
    /// The node that an event makes or, for an alias, names.
    fn take(&mut self, event: Event) -> Result<Option<Id>, YamlError> {
        let at = position(event.start_mark);
        let id = match event.data {
            EventData::Alias { anchor } => {
                let unknown = || Problem::Syntax(format!("unknown anchor '{anchor}' referenced"));
                let id = self.anchors.get(&anchor).copied();
                let id = id.ok_or_else(|| YamlError::at(at, unknown()))?;
                self.attach(id);
                id
            }
            EventData::Scalar {
                anchor,
                tag,
                value,
                plain_implicit,
                ..
            } => {
                let scalar = Scalar {
                    text: value,
                    plain: plain_implicit,
                    tag: tag.map(short),
                };
                self.add(at, anchor, Kind::Scalar(scalar))?
            }
            EventData::SequenceStart { anchor, .. } => {
                self.open(at, anchor, Kind::Sequence(Vec::new()))?
            }
            EventData::MappingStart { anchor, .. } => {
                self.open(at, anchor, Kind::Mapping(Vec::new()))?
            }
            EventData::SequenceEnd | EventData::MappingEnd => {
                self.open.pop();
                return Ok(None);
            }
            _ => return Ok(None),
        };
        Ok(Some(id))
    }

    fn add(&mut self, at: Position, anchor: Option<String>, kind: Kind) -> Result<Id, YamlError> {
        if self.nodes.len() >= self.limits.values {
            return Err(YamlError::at(at, Problem::TooMany(self.limits.values)));
        }
        let id = self.nodes.len();
        self.nodes.push(Node { at, kind });
        if let Some(anchor) = anchor {
            self.anchors.insert(anchor, id);
        }
        self.attach(id);
        Ok(id)
    }

    fn open(&mut self, at: Position, anchor: Option<String>, kind: Kind) -> Result<Id, YamlError> {
        let id = self.add(at, anchor, kind)?;
        if self.open.len() >= self.limits.depth {
            return Err(YamlError::at(at, Problem::TooDeep(self.limits.depth)));
        }
        self.open.push(id);
        Ok(id)
    }

    fn attach(&mut self, id: Id) {
        let parent = self.open.last().map(|&parent| &mut self.nodes[parent].kind);
        if let Some(Kind::Sequence(children) | Kind::Mapping(children)) = parent {
            children.push(id);
        }
    }
}

/// The short form of YAML's own tags, the full text of others.
fn short(full: String) -> String {
    match full.strip_prefix("tag:yaml.org,2002:") {
        Some(rest) => format!("!!{rest}"),
        None => full,
    }
}

fn position(mark: Mark) -> Position {
    let from_one = |number: u64| {
        usize::try_from(number)
            .unwrap_or(usize::MAX)
            .saturating_add(1)
    };
    Position {
        line: from_one(mark.line),
        column: from_one(mark.column),
    }
}
