//! The fields of a type, from what its deserializer asks for: each struct is given all of its fields, each list
//! one item, each map one key.

use std::{cell::RefCell, fmt};

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error, IntoDeserializer, MapAccess, SeqAccess,
    Visitor,
};

/// The paths of all fields that hold no other.
pub(super) fn paths<T: DeserializeOwned>() -> Vec<String> {
    let found = RefCell::new(Vec::new());
    T::deserialize(Node {
        path: String::new(),
        found: &found,
    })
    .unwrap_or_else(|error| panic!("the type takes no made-up value: {error}"));
    found.into_inner()
}

#[derive(Debug)]
struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

impl Error for Refused {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self(text.to_string())
    }
}

struct Node<'a> {
    path: String,
    found: &'a RefCell<Vec<String>>,
}

impl Node<'_> {
    fn leaf(&self) {
        self.found.borrow_mut().push(self.path.clone());
    }

    fn below(&self, name: &str) -> Self {
        let path = match self.path.as_str() {
            "" => name.to_owned(),
            path => format!("{path}.{name}"),
        };
        Self {
            path,
            found: self.found,
        }
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
            self.leaf();
            visitor.$visit(0)
        }
    )*};
}

macro_rules! texts {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
            self.leaf();
            // A time is also a text.
            visitor.visit_str("2026-01-01T00:00:00Z")
        }
    )*};
}

impl<'de> Deserializer<'de> for Node<'_> {
    type Error = Refused;

    numbers! {
        deserialize_i8 visit_i8
        deserialize_i16 visit_i16
        deserialize_i32 visit_i32
        deserialize_i64 visit_i64
        deserialize_u8 visit_u8
        deserialize_u16 visit_u16
        deserialize_u32 visit_u32
        deserialize_u64 visit_u64
    }

    texts! { deserialize_char deserialize_str deserialize_string deserialize_any deserialize_identifier
    deserialize_unit deserialize_ignored_any }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.leaf();
        visitor.visit_bool(false)
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.leaf();
        visitor.visit_f32(0.0)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.leaf();
        visitor.visit_f64(0.0)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.leaf();
        visitor.visit_bytes(&[])
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_some(self)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.leaf();
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        if name == "FieldsV1" {
            self.leaf();
            return visitor
                .visit_newtype_struct(serde_json::Value::Null)
                .map_err(Refused::custom);
        }

        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let path = format!("{}[]", self.path);
        let item = Node {
            path,
            found: self.found,
        };
        visitor.visit_seq(One(Some(item)))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Refused> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.deserialize_seq(visitor)
    }

    /// A map of names that people choose: its values are part of it.
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.leaf();
        visitor.visit_map(Fields {
            node: self,
            rest: [].iter(),
            name: "",
        })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        if fields.is_empty() {
            self.leaf();
        }
        visitor.visit_map(Fields {
            node: self,
            rest: fields.iter(),
            name: "",
        })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.leaf();
        visitor.visit_enum("".into_deserializer())
    }
}

struct One<'a>(Option<Node<'a>>);

impl<'de> SeqAccess<'de> for One<'_> {
    type Error = Refused;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Refused> {
        self.0.take().map(|node| seed.deserialize(node)).transpose()
    }
}

struct Fields<'a> {
    node: Node<'a>,
    rest: std::slice::Iter<'static, &'static str>,
    name: &'static str,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Refused;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Refused> {
        let Some(name) = self.rest.next() else {
            return Ok(None);
        };
        self.name = name;
        seed.deserialize((*name).into_deserializer()).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Refused> {
        // The type wants its own name and version, not ours.
        match (self.node.path.as_str(), self.name) {
            ("", "apiVersion") => {
                self.node.below("apiVersion").leaf();
                seed.deserialize("v1".into_deserializer())
            }
            ("", "kind") => {
                self.node.below("kind").leaf();
                seed.deserialize("Pod".into_deserializer())
            }
            (_, name) => seed.deserialize(self.node.below(name)),
        }
    }
}
