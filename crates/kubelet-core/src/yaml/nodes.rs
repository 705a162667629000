//! Events to nodes: the tree of the first document, aliases resolved to the node they name.

use std::borrow::Cow;
use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Tag};

use super::{Limits, Position, Problem, YamlError};

/// Index of a node in [`Nodes`].
pub(super) type Id = usize;

/// One document. Without any, `root` is `None`.
pub(super) struct Nodes<'a> {
    pub(super) root: Option<Id>,
    nodes: Vec<Node<'a>>,
}

impl<'a> Nodes<'a> {
    pub(super) fn get(&self, id: Id) -> &Node<'a> {
        &self.nodes[id]
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }
}

pub(super) struct Node<'a> {
    pub(super) at: Position,
    pub(super) kind: Kind<'a>,
}

pub(super) enum Kind<'a> {
    Scalar(Scalar<'a>),
    Sequence(Vec<Id>),
    /// Key, value, key, value...
    Mapping(Vec<Id>),
}

pub(super) struct Scalar<'a> {
    pub(super) text: Cow<'a, str>,
    /// Neither quoted nor a block.
    pub(super) plain: bool,
    /// Explicit tag, `!!x` for those of YAML itself.
    pub(super) tag: Option<String>,
}

/// Reads events up to the end of the first document.
pub(super) fn parse(text: &str, limits: Limits) -> Result<Nodes<'_>, YamlError> {
    let mut builder = Builder {
        limits,
        nodes: Vec::new(),
        anchors: HashMap::new(),
        open: Vec::new(),
        closed: false,
    };
    let mut parser = Parser::new_from_str(text);
    let mut root = None;
    while let Some(event) = parser.next_event() {
        let (event, span) = match event {
            Ok(event) => event,
            // The first document's list or map is complete; what follows is none of ours.
            Err(_) if builder.closed => break,
            Err(error) => {
                let problem = Problem::Syntax(error.info().to_owned());
                return Err(YamlError::at(position(*error.marker()), problem));
            }
        };
        if matches!(event, Event::DocumentEnd | Event::StreamEnd) {
            break;
        }
        if let Some(id) = builder.take(event, position(span.start))? {
            root = root.or(Some(id));
        }
    }
    Ok(Nodes {
        root,
        nodes: builder.nodes,
    })
}

struct Builder<'a> {
    limits: Limits,
    nodes: Vec<Node<'a>>,
    anchors: HashMap<usize, Id>,
    /// The lists and maps around the next node.
    open: Vec<Id>,
    /// The outermost list or map has ended.
    closed: bool,
}

impl<'a> Builder<'a> {
    /// The node that an event makes or, for an alias, names.
    fn take(&mut self, event: Event<'a>, at: Position) -> Result<Option<Id>, YamlError> {
        let id = match event {
            Event::Alias(anchor) => {
                let unknown = || Problem::Syntax("unknown anchor referenced".to_owned());
                let id = self.anchors.get(&anchor).copied();
                let id = id.ok_or_else(|| YamlError::at(at, unknown()))?;
                self.attach(id);
                id
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain;
                let tag = tag.map(|tag| name(&tag));
                self.add(at, anchor, Kind::Scalar(Scalar { text, plain, tag }))?
            }
            Event::SequenceStart(anchor, _) => self.open(at, anchor, Kind::Sequence(Vec::new()))?,
            Event::MappingStart(anchor, _) => self.open(at, anchor, Kind::Mapping(Vec::new()))?,
            Event::SequenceEnd | Event::MappingEnd => {
                self.open.pop();
                self.closed = self.open.is_empty();
                return Ok(None);
            }
            _ => return Ok(None),
        };
        Ok(Some(id))
    }

    fn add(&mut self, at: Position, anchor: usize, kind: Kind<'a>) -> Result<Id, YamlError> {
        if self.nodes.len() >= self.limits.values {
            return Err(YamlError::at(at, Problem::TooMany(self.limits.values)));
        }
        let id = self.nodes.len();
        self.nodes.push(Node { at, kind });
        // Anchor 0 is none.
        if anchor != 0 {
            self.anchors.insert(anchor, id);
        }
        self.attach(id);
        Ok(id)
    }

    fn open(&mut self, at: Position, anchor: usize, kind: Kind<'a>) -> Result<Id, YamlError> {
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
fn name(tag: &Tag) -> String {
    let full = format!("{}{}", tag.handle, tag.suffix);
    full.strip_prefix("tag:yaml.org,2002:")
        .map(|rest| format!("!!{rest}"))
        .unwrap_or(full)
}

fn position(marker: Marker) -> Position {
    Position {
        line: marker.line(),
        column: marker.col() + 1,
    }
}
