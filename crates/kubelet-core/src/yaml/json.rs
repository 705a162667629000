//! The fast path for JSON.
//!
//! Upstream hands a document that begins with `{` to its JSON decoder as it is, so `80.0` stays a float here
//! (and no integer field takes it), where YAML makes it 80. Anything unusual (a repeated key, great depth, a
//! number that does not fit, YAML's own flow style) is left to the YAML reader by answering `None`.

use std::fmt;

use serde::Deserialize as _;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::Limits;

/// The value of `text` if it is plain JSON within the limits.
pub(super) fn read(text: &str, limits: Limits) -> Option<Value> {
    if !text.trim_start().starts_with('{') {
        return None;
    }
    let mut values = limits.values;
    let mut source = serde_json::Deserializer::from_str(text);
    let reader = Reader {
        depth: limits.depth,
        values: &mut values,
    };
    let value = reader.deserialize(&mut source).ok()?;
    source.end().ok()?;
    Some(value)
}

struct Reader<'a> {
    depth: usize,
    values: &'a mut usize,
}

impl Reader<'_> {
    fn inner<E: Error>(&mut self) -> Result<Reader<'_>, E> {
        let depth = self
            .depth
            .checked_sub(1)
            .ok_or_else(|| E::custom("too deep"))?;
        Ok(Reader {
            depth,
            values: self.values,
        })
    }

    fn count<E: Error>(&mut self) -> Result<(), E> {
        *self.values = self
            .values
            .checked_sub(1)
            .ok_or_else(|| E::custom("too many values"))?;
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(mut self, source: D) -> Result<Value, D::Error> {
        self.count()?;
        source.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self.inner()?)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key_seed(Key)? {
            self.count()?;
            let value = entries.next_value_seed(self.inner()?)?;
            if map.insert(key, value).is_some() {
                return Err(A::Error::custom("repeated key"));
            }
        }
        Ok(Value::Object(map))
    }
}

struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<String, D::Error> {
        String::deserialize(source)
    }
}
