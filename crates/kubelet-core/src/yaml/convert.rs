//! Nodes to JSON: merges, keys, limits on what aliases expand to.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::error::{Position, Problem, YamlError};
use super::nodes::{Id, Kind, Nodes, Scalar};
use super::scalar::{self, Resolved};
use super::{Document, DuplicateKey, Limits};

/// Deeper than this the recursion below could meet the end of a small thread's stack.
const DEEPEST: usize = 500;

/// The value of a whole document.
pub(super) fn document(nodes: &Nodes, limits: Limits) -> Result<Document, YamlError> {
    let mut reader = Reader {
        nodes,
        limits: Limits {
            depth: limits.depth.min(DEEPEST),
            ..limits
        },
        values: 0,
        text: 0,
        open: vec![false; nodes.len()],
        duplicates: Vec::new(),
    };
    let value = match nodes.root {
        Some(root) => reader.value(root, 0)?,
        None => Value::Null,
    };
    Ok(Document {
        value,
        duplicates: reader.duplicates,
        further: nodes.further,
        is_json: false,
    })
}

struct Reader<'n> {
    nodes: &'n Nodes,
    limits: Limits,
    /// Values made so far.
    values: usize,
    /// Bytes of text made so far.
    text: usize,
    /// By node: whether its value is being made, to see an alias to itself.
    open: Vec<bool>,
    duplicates: Vec<DuplicateKey>,
}

impl Reader<'_> {
    fn value(&mut self, id: Id, depth: usize) -> Result<Value, YamlError> {
        let node = self.nodes.get(id);
        let at = node.at;
        self.count(at)?;
        match &node.kind {
            Kind::Scalar(scalar) => self.scalar(scalar, at),
            Kind::Sequence(children) => {
                self.enter(id, depth)?;
                let items = children.iter().map(|&child| self.value(child, depth + 1));
                let list = items.collect::<Result<_, _>>()?;
                self.open[id] = false;
                Ok(Value::Array(list))
            }
            Kind::Mapping(children) => {
                self.enter(id, depth)?;
                let map = self.mapping(children, depth)?;
                self.open[id] = false;
                Ok(Value::Object(map))
            }
        }
    }

    fn scalar(&mut self, scalar: &Scalar, at: Position) -> Result<Value, YamlError> {
        let resolved = scalar::resolve(scalar).map_err(|problem| YamlError::at(at, problem))?;
        Ok(match resolved {
            Resolved::Null => Value::Null,
            Resolved::Bool(value) => Value::Bool(value),
            Resolved::Int(value) => value.into(),
            Resolved::Uint(value) => value.into(),
            Resolved::Float(value) => scalar::number(value)
                .map_err(|infinite| YamlError::at(at, Problem::NotJson(infinite)))?,
            Resolved::Text(text) => {
                self.count_text(text.len(), at)?;
                Value::String(text.into_owned())
            }
        })
    }

    fn mapping(&mut self, children: &[Id], depth: usize) -> Result<Map<String, Value>, YamlError> {
        let mut map = Map::new();
        // Keys that only a merge has set may be set again.
        let mut merged = HashSet::new();
        for pair in children.chunks_exact(2) {
            let (key, value) = (pair[0], pair[1]);
            if self.is_merge(key) {
                self.merge(value, depth, &mut |name, value| {
                    merged.insert(name.clone());
                    map.insert(name, value);
                })?;
                continue;
            }
            let name = self.key(key)?;
            let value = self.value(value, depth + 1)?;
            let repeated = map.contains_key(&name) && !merged.remove(&name);
            if repeated {
                let at = self.nodes.get(key).at;
                self.duplicates.push(DuplicateKey {
                    key: name.clone(),
                    at,
                });
            }
            map.insert(name, value);
        }
        Ok(map)
    }

    fn is_merge(&self, id: Id) -> bool {
        match &self.nodes.get(id).kind {
            Kind::Scalar(scalar) => {
                let tag = scalar.tag.as_deref();
                scalar.text == "<<" && (scalar.plain && tag.is_none() || tag == Some("!!merge"))
            }
            _ => false,
        }
    }

    /// Sets each entry of the merged map, or maps, in upstream's order: what comes later wins, within a list of
    /// maps the earlier.
    fn merge(
        &mut self,
        id: Id,
        depth: usize,
        set: &mut dyn FnMut(String, Value),
    ) -> Result<(), YamlError> {
        let node = self.nodes.get(id);
        let sources = match &node.kind {
            Kind::Mapping(_) => &[id][..],
            Kind::Sequence(list) => list,
            Kind::Scalar(_) => return Err(YamlError::at(node.at, Problem::Merge)),
        };
        for &source in sources.iter().rev() {
            match self.value(source, depth + 1)? {
                Value::Object(map) => map.into_iter().for_each(|(name, value)| set(name, value)),
                _ => return Err(YamlError::at(self.nodes.get(source).at, Problem::Merge)),
            }
        }
        Ok(())
    }

    /// A key as text, numbers and booleans as `sigs.k8s.io/yaml` writes them.
    fn key(&mut self, id: Id) -> Result<String, YamlError> {
        let node = self.nodes.get(id);
        let at = node.at;
        self.count(at)?;
        let bad = |what| Err(YamlError::at(at, Problem::Key(what)));
        let scalar = match &node.kind {
            Kind::Scalar(scalar) => scalar,
            Kind::Sequence(_) => return bad("a list"),
            Kind::Mapping(_) => return bad("a map"),
        };
        let name = match scalar::resolve(scalar).map_err(|problem| YamlError::at(at, problem))? {
            Resolved::Null => return bad("null"),
            Resolved::Uint(_) => return bad("an integer over 2^63"),
            Resolved::Bool(value) => value.to_string(),
            Resolved::Int(value) => value.to_string(),
            Resolved::Float(value) => scalar::float_key(value),
            Resolved::Text(text) => text.into_owned(),
        };
        self.count_text(name.len(), at)?;
        Ok(name)
    }

    fn enter(&mut self, id: Id, depth: usize) -> Result<(), YamlError> {
        let at = self.nodes.get(id).at;
        if std::mem::replace(&mut self.open[id], true) {
            return Err(YamlError::at(at, Problem::Cycle));
        }
        if depth >= self.limits.depth {
            return Err(YamlError::at(at, Problem::TooDeep(self.limits.depth)));
        }
        Ok(())
    }

    fn count(&mut self, at: Position) -> Result<(), YamlError> {
        self.values += 1;
        if self.values > self.limits.values {
            return Err(YamlError::at(at, Problem::TooMany(self.limits.values)));
        }
        Ok(())
    }

    fn count_text(&mut self, bytes: usize, at: Position) -> Result<(), YamlError> {
        self.text += bytes;
        if self.text > self.limits.bytes.saturating_mul(2) {
            return Err(YamlError::at(at, Problem::TooMany(self.limits.values)));
        }
        Ok(())
    }
}
