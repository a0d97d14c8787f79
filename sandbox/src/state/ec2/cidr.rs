//! IPv4 blocks: what subnets, routes and rules are written in.

use std::net::Ipv4Addr;

/// An IPv4 block with its host bits cleared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cidr {
    pub(super) base: u32,
    pub(super) bits: u8,
}

impl Cidr {
    /// Reads `10.0.0.5/24` as `10.0.0.0/24`.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        let bits: u8 = bits.parse().ok().filter(|bits| *bits <= 32)?;
        let address: Ipv4Addr = address.parse().ok()?;
        Some(Self { base: u32::from(address) & Self::mask(bits), bits })
    }

    fn mask(bits: u8) -> u32 {
        u32::MAX.checked_shl(u32::from(32 - bits)).unwrap_or(0)
    }

    /// Whether the other block lies inside this one.
    pub fn contains(self, other: Self) -> bool {
        other.bits >= self.bits && other.base & Self::mask(self.bits) == self.base
    }

    /// Whether they share an address.
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other) || other.contains(self)
    }

    /// The n-th address of the block.
    pub fn address(self, n: u32) -> Ipv4Addr {
        Ipv4Addr::from(self.base.wrapping_add(n))
    }

    /// Addresses a subnet of this block can give away (five are the vendor's).
    pub fn usable(self) -> u64 {
        (1_u64 << (32 - self.bits)).saturating_sub(5)
    }

    /// Length of the prefix.
    pub fn bits(self) -> u8 {
        self.bits
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.base), self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_lose_their_host_bits() {
        let block = Cidr::parse("10.0.0.5/24").unwrap();
        assert_eq!(block.to_string(), "10.0.0.0/24");
        assert!(Cidr::parse("0.0.0.0/0").unwrap().contains(block));
        assert!(!block.contains(Cidr::parse("10.0.1.0/24").unwrap()));
        assert_eq!(Cidr::parse("10.0.0.0/33"), None);
        assert_eq!(Cidr::parse("300.0.0.0/8"), None);
    }
}
