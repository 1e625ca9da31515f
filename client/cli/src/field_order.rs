//! In which order fields stand in what a template's `json` prints. Docker prints its structures' own order; gotmpl's
//! values keep none. So the order is learned from the document that a value was made of: objects with the same fields
//! have them in the same order there.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Serialize, de};

/// The orders that were learned. Clones share them.
#[derive(Clone, Default)]
pub struct FieldOrder(Arc<Mutex<Orders>>);

/// Names of fields as they are sorted, and as they stand in the document.
type Orders = HashMap<Vec<String>, Vec<String>>;

impl FieldOrder {
    /// Learns the order of the fields of a document, at every depth.
    pub fn learn(&self, document: &impl Serialize) -> Result<(), serde_json::Error> {
        let text = serde_json::to_string(document)?;
        let mut orders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Learner(&mut orders).deserialize(&mut serde_json::Deserializer::from_str(&text))
    }

    /// The order of these fields, which come sorted; they stay so where nothing was learned of them.
    pub fn of(&self, sorted: Vec<String>) -> Vec<String> {
        let orders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        orders.get(&sorted).cloned().unwrap_or(sorted)
    }
}

/// Walks through a document.
struct Learner<'a>(&'a mut Orders);

impl<'de> DeserializeSeed<'de> for Learner<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Learner<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut fields = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            fields.push(name);
            map.next_value_seed(Learner(self.0))?;
        }
        let mut sorted = fields.clone();
        sorted.sort();
        self.0.insert(sorted, fields);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Learner(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        Ok(())
    }
}
