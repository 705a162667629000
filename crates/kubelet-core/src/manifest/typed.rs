//! JSON values to typed objects the way Go's decoder takes them, with field paths.
//!
//! Over plain serde this adds: `null` is the zero value everywhere; numbers are quantities too, and quantities
//! are checked and brought to canonical form; an error names its field; unknown fields are listed.

use std::cell::RefCell;
use std::fmt::{self, Display};

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor,
};
use serde_json::Value;

use crate::quantity;

/// A field that holds what its type does not allow. Differs: the text names the field by its place in the document;
/// upstream by Go's types, and in a list without saying which.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("json: {field}: {problem}")]
pub struct TypeError {
    /// Path, `spec.containers[0].image`.
    pub field: String,
    /// What is wrong.
    pub problem: String,
}

/// The object that `value` describes, and the paths of the fields it does not have.
///
/// # Errors
/// [`TypeError`] of the first field of a wrong type.
pub fn decode<T: DeserializeOwned>(value: &Value) -> Result<(T, Vec<String>), TypeError> {
    let unknown = RefCell::new(Vec::new());
    let object = T::deserialize(Node {
        value,
        path: Path::Root,
        unknown: &unknown,
    })?;
    Ok((object, unknown.into_inner()))
}

/// What a value is, in Go's words.
pub(super) fn name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[derive(Clone, Copy)]
enum Path<'p> {
    Root,
    Field(&'p Path<'p>, &'p str),
    Index(&'p Path<'p>, usize),
}

impl Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Field(Path::Root, name) => f.write_str(name),
            Path::Field(parent, name) => write!(f, "{parent}.{name}"),
            Path::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

impl Error for TypeError {
    fn custom<T: Display>(problem: T) -> Self {
        Self {
            field: String::new(),
            problem: problem.to_string(),
        }
    }
}

#[derive(Clone, Copy)]
struct Node<'a> {
    value: &'a Value,
    path: Path<'a>,
    unknown: &'a RefCell<Vec<String>>,
}

impl Node<'_> {
    fn error(&self, problem: String) -> TypeError {
        TypeError {
            field: self.path.to_string(),
            problem,
        }
    }

    fn mismatch(&self, wanted: &str) -> TypeError {
        let shown = match self.value {
            Value::Number(number) => format!("number {number}"),
            other => name(other).to_owned(),
        };
        self.error(format!(
            "cannot unmarshal {shown} into a value of type {wanted}"
        ))
    }

    /// Visitors know no path; the innermost node adds its own.
    fn place<T>(&self, result: Result<T, TypeError>) -> Result<T, TypeError> {
        let placed = |error: TypeError| match &*error.field {
            "" => self.error(error.problem),
            _ => error,
        };
        result.map_err(placed)
    }

    fn integer(
        &self,
        wanted: &str,
        range: std::ops::RangeInclusive<i128>,
    ) -> Result<i128, TypeError> {
        let number = match self.value {
            Value::Null => return Ok(0),
            Value::Number(number) => number,
            _ => return Err(self.mismatch(wanted)),
        };
        let value = number
            .as_i64()
            .map(i128::from)
            .or(number.as_u64().map(i128::from));
        value
            .filter(|value| range.contains(value))
            .ok_or_else(|| self.mismatch(wanted))
    }
}

macro_rules! integers {
    ($($method:ident $visit:ident $type:ty, $wanted:literal;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
            let range = i128::from(<$type>::MIN)..=i128::from(<$type>::MAX);
            let value = <$type>::try_from(self.integer($wanted, range)?);
            self.place(visitor.$visit(value.map_err(TypeError::custom)?))
        }
    )*};
}

macro_rules! by_value {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
            self.deserialize_any(visitor)
        }
    )*};
}

macro_rules! text {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
            match self.value {
                Value::Null => self.place(visitor.visit_str("")),
                Value::String(text) => self.place(visitor.visit_str(text)),
                _ => Err(self.mismatch("string")),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Node<'_> {
    type Error = TypeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        let result = match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::String(text) => visitor.visit_str(text),
            Value::Array(_) => return self.deserialize_seq(visitor),
            Value::Object(_) => return self.deserialize_map(visitor),
            Value::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(value), _) => visitor.visit_i64(value),
                (_, Some(value)) => visitor.visit_u64(value),
                _ => visitor.visit_f64(number.as_f64().unwrap_or_default()),
            },
        };
        self.place(result)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        match self.value {
            Value::Null => visitor.visit_bool(false),
            Value::Bool(value) => visitor.visit_bool(*value),
            _ => Err(self.mismatch("bool")),
        }
    }

    integers! {
        deserialize_i8 visit_i8 i8, "int8";
        deserialize_i16 visit_i16 i16, "int16";
        deserialize_i32 visit_i32 i32, "int32";
        deserialize_i64 visit_i64 i64, "int64";
        deserialize_u8 visit_u8 u8, "uint8";
        deserialize_u16 visit_u16 u16, "uint16";
        deserialize_u32 visit_u32 u32, "uint32";
        deserialize_u64 visit_u64 u64, "uint64";
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        match self.value {
            Value::Null => visitor.visit_f64(0.0),
            Value::Number(number) => visitor.visit_f64(number.as_f64().unwrap_or_default()),
            _ => Err(self.mismatch("float64")),
        }
    }

    text! { deserialize_char deserialize_str deserialize_string }

    by_value! { deserialize_bytes deserialize_byte_buf deserialize_unit deserialize_identifier }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        self.deserialize_any(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        if name != "Quantity" {
            return self.place(visitor.visit_newtype_struct(self));
        }
        let text = match self.value {
            Value::Null => "0".to_owned(),
            Value::String(text) => text.trim().to_owned(),
            Value::Number(number) => number.to_string(),
            _ => return Err(self.mismatch("Quantity")),
        };
        let quantity = quantity::parse(&text).map_err(|error| self.error(error.to_string()))?;
        let text = quantity.to_string();
        self.place(visitor.visit_newtype_struct(StrDeserializer::new(&text)))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        let items = match self.value {
            Value::Null => &[][..],
            Value::Array(items) => items,
            _ => return Err(self.mismatch("array")),
        };
        self.place(visitor.visit_seq(Items {
            parent: &self,
            items: items.iter().enumerate(),
        }))
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        let empty = serde_json::Map::new();
        let entries = match self.value {
            Value::Null => &empty,
            Value::Object(entries) => entries,
            _ => return Err(self.mismatch("object")),
        };
        let entries = Entries {
            parent: &self,
            rest: entries.iter(),
            value: None,
        };
        self.place(visitor.visit_map(entries))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        match self.value {
            Value::String(text) => {
                let text: StrDeserializer<'_, TypeError> = StrDeserializer::new(text);
                self.place(visitor.visit_enum(text))
            }
            _ => Err(self.mismatch("string")),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        self.unknown.borrow_mut().push(self.path.to_string());
        visitor.visit_unit()
    }
}

struct Items<'a> {
    parent: &'a Node<'a>,
    items: std::iter::Enumerate<std::slice::Iter<'a, Value>>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = TypeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, TypeError> {
        let Some((index, value)) = self.items.next() else {
            return Ok(None);
        };
        let path = Path::Index(&self.parent.path, index);
        seed.deserialize(Node {
            value,
            path,
            unknown: self.parent.unknown,
        })
        .map(Some)
    }
}

struct Entries<'a> {
    parent: &'a Node<'a>,
    rest: serde_json::map::Iter<'a>,
    value: Option<(&'a str, &'a Value)>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = TypeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, TypeError> {
        let Some((key, value)) = self.rest.next() else {
            return Ok(None);
        };
        self.value = Some((key, value));
        seed.deserialize(StrDeserializer::new(key)).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, TypeError> {
        let (key, value) = self.value.take().unwrap_or(("", &Value::Null));
        let path = Path::Field(&self.parent.path, key);
        seed.deserialize(Node {
            value,
            path,
            unknown: self.parent.unknown,
        })
    }
}
