//! [`CouplingSchema`]: half-life, floor and cap of a collection, and their bytes. Their consequences for a contribution
//! are in `decay`.

use alloc::vec::Vec;

use super::units::Units;
use crate::bytes::{DecodeError, Reader, put_varint, serde_as_canonical_bytes};

/// The reason for which a schema was refused. Nothing was made or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// The half-life is not from 1,000 to 2⁴⁸ − 1 ms. Nothing changed.
    #[error("the half-life is not from 1,000 to 2^48 - 1 ms")]
    HalfLife,
    /// The floor is below 2⁻¹⁶ units or not below the cap. Nothing changed.
    #[error("the floor is below 2^-16 units or not below the cap")]
    Floor,
    /// The cap is above 2²⁰ units, or above 2²⁰ floors. Nothing changed.
    #[error("the cap is above 2^20 units or above 2^20 floors")]
    Cap,
}

/// The schemas of two collections differ, so that the contributions of one mean nothing in the other. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the schema differs from the collection's")]
pub struct SchemaMismatch;

/// The half-life, the floor and the cap, on which two replicas must agree to mean the same by a coupling.
///
/// Two schemas are two collections: bytes of one are refused by the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CouplingSchema {
    half_life_ms: u64,
    floor: Units,
    cap: Units,
    /// How long, in half-lives as Q40.24, the greatest contribution takes to decay to a grain. Follows from the rest.
    pub(super) span: u64,
}

impl CouplingSchema {
    /// The shortest half-life, in milliseconds: one second.
    pub const HALF_LIFE_MS_MIN: u64 = 1_000;
    /// The longest half-life, in milliseconds: 2⁴⁸ − 1, about 8,900 years.
    pub const HALF_LIFE_MS_MAX: u64 = (1 << 48) - 1;
    /// The smallest floor: 2⁻¹⁶ units.
    pub const FLOOR_MIN: Units = Units::from_bits(1 << 16);
    /// The greatest cap: 2²⁰ units.
    pub const CAP_MAX: Units = Units::new(1 << 20);
    /// The most floors a cap may have: 2²⁰, so that at the cap the smallest increment is still 46 steps of an
    /// instant (see the error bounds in the module's documentation).
    pub const FLOORS_MAX: u64 = 1 << 20;

    /// A schema with a half-life in milliseconds (1,000 to 2⁴⁸ − 1), a floor, below which a value reads as 0 (from
    /// 2⁻¹⁶ units up to below the cap), and a cap, which no value exceeds (at most 2²⁰ units and 2²⁰ floors).
    pub const fn new(half_life_ms: u64, floor: Units, cap: Units) -> Result<Self, SchemaError> {
        if half_life_ms < Self::HALF_LIFE_MS_MIN || half_life_ms > Self::HALF_LIFE_MS_MAX {
            return Err(SchemaError::HalfLife);
        }
        if cap.to_bits() > Self::CAP_MAX.to_bits() {
            return Err(SchemaError::Cap);
        }
        if floor.to_bits() < Self::FLOOR_MIN.to_bits() || floor.to_bits() >= cap.to_bits() {
            return Err(SchemaError::Floor);
        }
        // At most 2⁵² · 2²⁰ is compared with at most 2⁵²: no overflow in a u128.
        if cap.to_bits() as u128 > floor.to_bits() as u128 * Self::FLOORS_MAX as u128 {
            return Err(SchemaError::Cap);
        }
        let schema = Self { half_life_ms, floor, cap, span: 0 };
        Ok(Self { span: schema.span_of(schema.most()), ..schema })
    }

    /// A schema with the suggested cap, 65,536 units, and floor, 1/16 of a unit. Errors if the half-life, in
    /// milliseconds, is not from 1,000 to 2⁴⁸ − 1.
    pub const fn with_half_life(half_life_ms: u64) -> Result<Self, SchemaError> {
        Self::new(half_life_ms, Units::from_bits(1 << 28), Units::new(65_536))
    }

    /// The time in which a value halves, in milliseconds.
    #[must_use]
    pub const fn half_life_ms(&self) -> u64 {
        self.half_life_ms
    }

    /// The amount below which a value reads as 0.
    #[must_use]
    pub const fn floor(&self) -> Units {
        self.floor
    }

    /// The greatest value read. One contribution may reach 2⁸ times as much.
    #[must_use]
    pub const fn cap(&self) -> Units {
        self.cap
    }

    /// The smallest increment: two floors.
    #[must_use]
    pub const fn increment_min(&self) -> Units {
        Units::from_bits(self.floor.to_bits() * 2)
    }

    /// The canonical bytes: half-life in ms, floor and cap in 2⁻³² units, as varints.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.put(&mut out);
        out
    }

    /// The inverse of [`encode`](Self::encode). Errors on anything that `encode` does not give.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let schema = Self::take(&mut reader)?;
        reader.finish()?;
        Ok(schema)
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.half_life_ms);
        put_varint(out, self.floor.to_bits());
        put_varint(out, self.cap.to_bits());
    }

    pub(super) fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let half_life_ms = reader.varint()?;
        let floor = Units::from_bits(reader.varint()?);
        let cap = Units::from_bits(reader.varint()?);
        Self::new(half_life_ms, floor, cap).map_err(|_| DecodeError::Limit)
    }
}

serde_as_canonical_bytes!(CouplingSchema);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_outside_its_ranges_is_refused() {
        let (floor, cap) = (Units::from_bits(1 << 28), Units::new(65_536));
        assert_eq!(CouplingSchema::new(999, floor, cap), Err(SchemaError::HalfLife));
        assert_eq!(CouplingSchema::new(1 << 48, floor, cap), Err(SchemaError::HalfLife));
        assert_eq!(CouplingSchema::new(1_000, Units::from_bits(65_535), Units::ONE), Err(SchemaError::Floor));
        assert_eq!(CouplingSchema::new(1_000, cap, cap), Err(SchemaError::Floor));
        assert_eq!(CouplingSchema::new(1_000, Units::MAX, Units::MAX), Err(SchemaError::Cap));
        assert_eq!(CouplingSchema::new(1_000, floor, Units::new(65_537)), Err(SchemaError::Cap));
        for schema in [
            CouplingSchema::with_half_life(1_000),
            CouplingSchema::with_half_life((1 << 48) - 1),
            CouplingSchema::new(5_000, CouplingSchema::FLOOR_MIN, Units::new(16)),
            CouplingSchema::new(5_000, Units::ONE, CouplingSchema::CAP_MAX),
            CouplingSchema::new(5_000, Units::from_bits((1 << 52) - 1), CouplingSchema::CAP_MAX),
        ] {
            let schema = schema.unwrap();
            assert_eq!(CouplingSchema::decode(&schema.encode()), Ok(schema));
        }
    }

    #[test]
    fn a_schema_can_be_a_constant() {
        const WEEK: Result<CouplingSchema, SchemaError> = CouplingSchema::with_half_life(7 * 86_400_000);
        assert_eq!(WEEK.map(|schema| schema.half_life_ms()), Ok(604_800_000));
    }
}
