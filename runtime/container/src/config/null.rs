//! `null`, which Go writes for lists and maps that were never made.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// `null` means what an absent field means.
pub fn read<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(source: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(source)?.unwrap_or_default())
}

/// Writes an empty list or map as `null`.
pub fn write<S: Serializer, T: Default + PartialEq + Serialize>(value: &T, target: S) -> Result<S::Ok, S::Error> {
    if *value == T::default() { target.serialize_none() } else { value.serialize(target) }
}

/// Whether a value is what an absent field means.
pub fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
