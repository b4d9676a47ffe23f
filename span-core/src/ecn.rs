//! Explicit congestion notification across the tunnel (RFC 3168, RFC 6040).
//!
//! A router that is congested marks packets instead of dropping them, if their sender says that it
//! understands. For routers between two nodes that must hold although they see the outer packet only: its
//! mark is copied from the inner one on the way in, and joined with it on the way out.

/// The low two bits of the IP traffic class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Ecn {
    /// Not capable of ECN.
    #[default]
    NotEct = 0b00,
    /// ECT(1).
    Ect1 = 0b01,
    /// ECT(0).
    Ect0 = 0b10,
    /// Congestion experienced.
    Ce = 0b11,
}

impl Ecn {
    /// From the low two bits of a traffic class; the others are ignored.
    pub const fn from_bits(bits: u8) -> Self {
        match bits & 0b11 {
            0b01 => Ecn::Ect1,
            0b10 => Ecn::Ect0,
            0b11 => Ecn::Ce,
            _ => Ecn::NotEct,
        }
    }

    /// The mark of the outer packet around an inner one with this mark: the same (RFC 6040, section 4.1,
    /// normal mode).
    pub const fn outer(self) -> Self {
        self
    }

    /// The mark an inner packet with this mark goes on with after its way in an outer one marked `outer`
    /// (RFC 6040, section 4.2). `None`: it was to be marked, but its sender would not understand; it is to be
    /// dropped, as the router would have.
    pub const fn after(self, outer: Ecn) -> Option<Self> {
        match (self, outer) {
            (Ecn::NotEct, Ecn::Ce) => None,
            (Ecn::Ect0 | Ecn::Ect1, Ecn::Ce) => Some(Ecn::Ce),
            (Ecn::Ect0, Ecn::Ect1) => Some(Ecn::Ect1),
            (inner, _) => Some(inner),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Ecn::{self, Ce, Ect0, Ect1, NotEct};

    /// RFC 6040, figure 4: the outer marks in the order Not-ECT, ECT(0), ECT(1), CE.
    #[test]
    fn the_rfcs_table() {
        let table = [
            (NotEct, [Some(NotEct), Some(NotEct), Some(NotEct), None]),
            (Ect0, [Some(Ect0), Some(Ect0), Some(Ect1), Some(Ce)]),
            (Ect1, [Some(Ect1), Some(Ect1), Some(Ect1), Some(Ce)]),
            (Ce, [Some(Ce), Some(Ce), Some(Ce), Some(Ce)]),
        ];
        for (inner, expected) in table {
            assert_eq!([NotEct, Ect0, Ect1, Ce].map(|outer| inner.after(outer)), expected, "{inner:?}");
        }
    }

    #[test]
    fn a_way_without_congestion_changes_nothing() {
        for bits in 0..=255 {
            let ecn = Ecn::from_bits(bits);
            assert_eq!(ecn as u8, bits & 0b11);
            assert_eq!(ecn.after(ecn.outer()), Some(ecn));
        }
    }
}
