//! Which primary of a Redis Cluster has which slots, and which slot a name is in (Redis Cluster specification: "Key
//! distribution model", "Hash tags").

use std::{collections::BTreeSet, fmt, sync::Arc};

use redis::{ParsingError, RedisError, Value};

/// How many slots there are.
const SLOTS: u16 = 16384;

/// Where a node is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Address {
    pub(super) host: Arc<str>,
    pub(super) port: u16,
}

impl Address {
    pub(super) fn new(host: &str, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
        }
    }

    /// Where an answer MOVED or ASK sends us; a host that is left out is that of who answered.
    pub(super) fn of_redirect(error: &RedisError, answered: &Self) -> Option<Self> {
        let (host, port) = error.redirect_node()?.0.rsplit_once(':')?;
        let host = if host.is_empty() { &answered.host } else { host };
        Some(Self::new(host, port.parse().ok()?))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The slot of a name: of what is between its first brace and the next, if that is anything, else of all of it.
pub(super) fn slot(name: &[u8]) -> u16 {
    let tag = name.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = &name[open + 1..];
        let close = rest.iter().position(|byte| *byte == b'}')?;
        Some(&rest[..close])
    });
    let hashed = tag.filter(|tag| !tag.is_empty()).unwrap_or(name);
    crc16::State::<crc16::XMODEM>::calculate(hashed) % SLOTS
}

/// All slots, as one of the nodes sees them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Slots {
    /// By the first slot, without overlaps: the last slot, and who has them.
    ranges: Vec<(u16, u16, Address)>,
}

impl Slots {
    /// Reads the answer to CLUSTER SLOTS, which `answered` gave.
    pub(super) fn read(answer: Value, answered: &Address) -> Result<Self, ParsingError> {
        let answer: Vec<Vec<Value>> = redis::from_redis_value(answer)?;
        let mut ranges = Vec::with_capacity(answer.len());
        for range in answer {
            let mut parts = range.into_iter();
            let (Some(first), Some(last), Some(primary)) = (parts.next(), parts.next(), parts.next()) else {
                return Err("a range of slots has no first, no last or no primary".into());
            };
            let mut primary = redis::from_redis_value::<Vec<Value>>(primary)?.into_iter();
            let (Some(host), Some(port)) = (primary.next(), primary.next()) else {
                return Err("a primary has no host or no port".into());
            };
            let host: Option<String> = redis::from_redis_value(host)?;
            let host = match host.as_deref() {
                // It does not know itself by any other name.
                None | Some("") => &answered.host,
                // Nobody knows where it is.
                Some("?") => continue,
                Some(host) => host,
            };
            let address = Address::new(host, number(port, u16::MAX)?);
            ranges.push((number(first, SLOTS - 1)?, number(last, SLOTS - 1)?, address));
        }
        ranges.sort_unstable();
        Ok(Self { ranges })
    }

    /// Who has a slot; `None` when nobody does.
    pub(super) fn owner(&self, slot: u16) -> Option<&Address> {
        let next = self.ranges.partition_point(|(first, ..)| *first <= slot);
        let (_, last, address) = self.ranges.get(next.checked_sub(1)?)?;
        (slot <= *last).then_some(address)
    }

    /// Everybody who has any.
    pub(super) fn primaries(&self) -> BTreeSet<&Address> {
        self.ranges.iter().map(|(.., address)| address).collect()
    }

    /// How many nobody has.
    pub(super) fn missing(&self) -> u16 {
        let served = self
            .ranges
            .iter()
            .map(|(first, last, _)| last.saturating_sub(*first) + 1);
        SLOTS.saturating_sub(served.sum())
    }
}

/// A number up to `most`.
fn number(value: Value, most: u16) -> Result<u16, ParsingError> {
    let number: i64 = redis::from_redis_value(value)?;
    let number = u16::try_from(number).ok().filter(|number| *number <= most);
    number.ok_or_else(|| "a slot or a port is out of range".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: i64, last: i64, host: Value, port: i64) -> Value {
        let node = Value::Array(vec![host, Value::Int(port), Value::SimpleString("id".into())]);
        Value::Array(vec![Value::Int(first), Value::Int(last), node])
    }

    fn host(name: &str) -> Value {
        Value::BulkString(name.into())
    }

    #[test]
    fn a_name_is_in_the_slot_of_its_hash_tag() {
        // The specification's own example, and what `CLUSTER KEYSLOT` says.
        assert_eq!(slot(b"123456789"), 0x31C3);
        assert_eq!(slot(b"tidings:ch:{tasks:1}"), slot(b"tasks:1"));
        assert_eq!(slot(b"tidings:once:{tasks:1}:{7}"), slot(b"tasks:1"));
        assert_eq!(slot(b"foo{}{bar}"), slot(b"foo{}{bar}"));
        assert_ne!(slot(b"foo{}{bar}"), slot(b"bar"));
        assert_eq!(slot(b"foo{{bar}}zap"), slot(b"{bar"));
    }

    #[test]
    fn each_slot_has_its_owner_or_none() {
        let answered = Address::new("seed", 1);
        let answer = Value::Array(vec![
            range(100, 199, host("b"), 7),
            range(0, 9, host("a"), 7),
            range(10, 10, Value::Nil, 8),
            range(300, 400, host("?"), 7),
        ]);
        let slots = Slots::read(answer, &answered).unwrap();
        let owner = |slot| slots.owner(slot).map(ToString::to_string);
        assert_eq!(owner(0).as_deref(), Some("a:7"));
        assert_eq!(owner(9).as_deref(), Some("a:7"));
        assert_eq!(owner(10).as_deref(), Some("seed:8"));
        assert_eq!(owner(11), None);
        assert_eq!(owner(150).as_deref(), Some("b:7"));
        assert_eq!(owner(350), None, "nobody knows where that one is");
        assert_eq!(owner(16383), None);
        assert_eq!(slots.primaries().len(), 3);
        assert_eq!(slots.missing(), 16384 - 111);
    }

    #[test]
    fn another_answer_is_an_error() {
        let answered = Address::new("seed", 1);
        for answer in [
            Value::Int(1),
            Value::Array(vec![Value::Array(vec![Value::Int(1), Value::Int(2)])]),
            Value::Array(vec![range(0, 99_999, host("a"), 1)]),
            Value::Array(vec![range(0, 1, host("a"), 99_999)]),
        ] {
            assert!(Slots::read(answer, &answered).is_err());
        }
    }

    #[test]
    fn who_is_sent_elsewhere_knows_where() {
        let redirect = |text: &str| {
            let parsed = redis::parse_redis_value(format!("-{text}\r\n").as_bytes()).unwrap();
            let error = parsed.extract_error().unwrap_err();
            Address::of_redirect(&error, &Address::new("here", 1)).map(|to| to.to_string())
        };
        assert_eq!(
            redirect("MOVED 3999 10.0.0.1:6381").as_deref(),
            Some("10.0.0.1:6381")
        );
        assert_eq!(redirect("ASK 3999 ::1:6381").as_deref(), Some("[::1]:6381"));
        assert_eq!(redirect("MOVED 3999 :6381").as_deref(), Some("here:6381"));
        assert_eq!(redirect("MOVED 3999"), None);
        assert_eq!(redirect("ERR no"), None);
    }
}
