//! Tree to raw types, through serde, collecting every fault.
//!
//! serde stops at the first fault. So the faulty value is marked, left out, and decoding begins again, until
//! what is left is sound. Raw types therefore never require a field.

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, Unexpected, Visitor};
use serde::forward_to_deserialize_any;

use super::fault::Fault;
use super::suggest;
use super::tree::{Entry, Node, NodeId, Value};

/// Faults of one file that are reported; more are counted as one.
pub(super) const MAX_FAULTS: usize = 100;

/// Decodes `root`, adds what is wrong to `faults` and marks it in the tree. None if nothing is left.
pub(super) fn decode<T: DeserializeOwned>(root: &mut Node, faults: &mut Vec<Fault>) -> Option<T> {
    loop {
        let fault = match T::deserialize(Decoder(root)) {
            Ok(value) => return Some(value),
            Err(fault) => fault.at(root.id),
        };
        let pruned = match fault.leave_out.or(fault.at) {
            Some(id) => root.prune(id, fault.meant.as_deref()),
            None => false,
        };
        if !fault.silent {
            faults.push(fault);
        }
        if !pruned || faults.len() >= MAX_FAULTS {
            return None;
        }
    }
}

/// serde's view of a value.
struct Decoder<'a>(&'a Node);

impl<'a> Decoder<'a> {
    fn visit<'de, V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, Fault> {
        match &self.0.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Integer(value) => match (u64::try_from(*value), i64::try_from(*value)) {
                (Ok(value), _) => visitor.visit_u64(value),
                (_, Ok(value)) => visitor.visit_i64(value),
                _ => Err(Fault::new(format!("the number {value} is too large"))),
            },
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Text(value) => visitor.visit_str(&value.text),
            Value::List(nodes) => visitor.visit_seq(List(nodes.iter())),
            Value::Map(entries) => visitor.visit_map(Map {
                rest: entries.iter(),
                value: None,
            }),
        }
    }

    /// The text of a scalar that the environment was put into, which has no other type yet.
    fn interpolated(&self) -> Option<&'a str> {
        match &self.0.value {
            Value::Text(value) if value.written.is_some() => Some(&value.text),
            _ => None,
        }
    }
}

impl<'de> de::Deserializer<'de> for Decoder<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.visit(visitor)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.interpolated().and_then(|text| text.parse().ok()) {
            Some(value) => visitor.visit_bool(value),
            None => self.visit(visitor),
        }
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.interpolated().and_then(|text| text.parse().ok()) {
            Some(value) => visitor.visit_u64(value),
            None => self.visit(visitor),
        }
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.interpolated().and_then(|text| text.parse().ok()) {
            Some(value) => visitor.visit_f64(value),
            None => self.visit(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.0.value {
            Value::Null => {
                Err(Fault::new("no value is given")
                    .hint("give one (`{}` for all defaults), or remove the key"))
            }
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    /// serde would take a list for a struct, field by field.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.0.value {
            Value::List(_) => Err(de::Error::invalid_type(Unexpected::Seq, &visitor)),
            _ => self.visit(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let wrong_shape = || {
            Fault::new("expected one choice")
                .at(self.0.id)
                .hint(format!("one of {}", suggest::list(variants.iter().copied())))
        };
        match &self.0.value {
            Value::Text(value) => visitor.visit_enum(Choice {
                name: &value.text,
                key_id: None,
                node: self.0,
                payload: None,
            }),
            Value::Map(entries) => match entries.as_slice() {
                [entry] if entry.node.faulty => Err(Fault {
                    silent: true,
                    ..wrong_shape()
                }),
                [entry] => visitor.visit_enum(Choice {
                    name: &entry.key,
                    key_id: Some(entry.key_id),
                    node: self.0,
                    payload: Some(&entry.node),
                }),
                _ => Err(wrong_shape()),
            },
            _ => Err(wrong_shape()),
        }
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u128 f32 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier ignored_any
    }
}

/// The sound values of a list.
struct List<'a>(std::slice::Iter<'a, Node>);

impl<'de> de::SeqAccess<'de> for List<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        match self.0.find(|node| !node.faulty) {
            Some(node) => seed
                .deserialize(Decoder(node))
                .map(Some)
                .map_err(|fault| fault.at_value(node)),
            None => Ok(None),
        }
    }
}

/// The sound entries of a map.
struct Map<'a> {
    rest: std::slice::Iter<'a, Entry>,
    value: Option<&'a Node>,
}

impl<'de> de::MapAccess<'de> for Map<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        match self.rest.find(|entry| !entry.node.faulty) {
            Some(entry) => {
                self.value = Some(&entry.node);
                seed.deserialize(StrDeserializer::new(&entry.key))
                    .map(Some)
                    .map_err(|fault: Fault| fault.at(entry.key_id))
            }
            None => Ok(None),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        match self.value.take() {
            Some(node) => seed
                .deserialize(Decoder(node))
                .map_err(|fault| fault.at_value(node)),
            None => Err(Fault::new("a value was asked for before its key")),
        }
    }
}

/// `name` or `name: payload`.
struct Choice<'a> {
    name: &'a str,
    key_id: Option<NodeId>,
    node: &'a Node,
    payload: Option<&'a Node>,
}

impl<'de, 'a> de::EnumAccess<'de> for Choice<'a> {
    type Error = Fault;
    type Variant = Payload<'a>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Payload<'a>), Fault> {
        let variant = seed
            .deserialize(StrDeserializer::new(self.name))
            .map_err(|fault: Fault| Fault {
                leave_out: Some(self.node.id),
                ..match self.key_id {
                    Some(id) => fault.at(id),
                    None => fault.at_value(self.node),
                }
            })?;
        Ok((
            variant,
            Payload {
                name: self.name,
                node: self.payload,
            },
        ))
    }
}

/// What follows the name of a choice.
struct Payload<'a> {
    name: &'a str,
    node: Option<&'a Node>,
}

impl<'de> de::VariantAccess<'de> for Payload<'_> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        match self.node {
            None => Ok(()),
            Some(node) => Err(Fault::new(format!("`{}` takes no value", self.name)).at(node.id)),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        match self.node {
            Some(node) => seed
                .deserialize(Decoder(node))
                .map_err(|fault| fault.at_value(node)),
            None => Err(Fault::new(format!("`{0}` needs a value: `{0}: ...`", self.name))),
        }
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, Fault> {
        Err(de::Error::invalid_type(Unexpected::TupleVariant, &visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        Err(de::Error::invalid_type(Unexpected::StructVariant, &visitor))
    }
}
