//! Clients for the properties: well-behaved ones, which send conversations, and others, which send streams.

use bytes::Bytes;
use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
};
use tidings_websocket::{CloseFrame, Message};

/// A limit on messages that no well-behaved client exceeds.
pub(crate) const LIMIT: usize = 70_000;

const FIN: u8 = 0x80;

/// One frame as it goes over the wire, valid or not.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    /// FIN, the reserved bits and the opcode.
    first: u8,
    mask: Option<[u8; 4]>,
    /// A length that is encoded in 7, 16 or 64 bits whether or not it needs them; the shortest when `None`.
    length_bits: Option<u8>,
    payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn encode(&self, stream: &mut Vec<u8>) {
        let len = self.payload.len();
        let masked = if self.mask.is_some() { 0x80 } else { 0 };
        let shortest = match len {
            0..=125 => 7,
            126..=0xFFFF => 16,
            _ => 64,
        };
        stream.push(self.first);
        match self.length_bits.unwrap_or(shortest) {
            7 => stream.push(masked | (len as u8 & 0x7F)),
            16 => {
                stream.push(masked | 126);
                stream.extend((len as u16).to_be_bytes());
            }
            _ => {
                stream.push(masked | 127);
                stream.extend((len as u64).to_be_bytes());
            }
        }
        let mask = self.mask.unwrap_or_default();
        stream.extend(self.mask.iter().flatten());
        stream.extend(
            self.payload
                .iter()
                .zip(mask.iter().cycle())
                .map(|(b, key)| b ^ key),
        );
    }
}

/// What a well-behaved client sends, and what must arrive.
#[derive(Debug, Clone)]
pub(crate) struct Conversation {
    pub(crate) messages: Vec<Message>,
    pub(crate) stream: Vec<u8>,
}

/// Messages, fragmented anywhere, with control frames between the fragments, under any masks; perhaps a close.
pub(crate) fn conversation() -> impl Strategy<Value = Conversation> {
    let close = proptest::option::weighted(0.3, close());
    let masks = vec(any::<[u8; 4]>(), 1..4);
    (vec(fragmented(), 0..6), close, masks).prop_map(|(parts, close, masks)| {
        let mut masks = masks.into_iter().cycle();
        let (mut messages, mut stream) = (Vec::new(), Vec::new());
        for (part_messages, frames) in parts {
            messages.extend(part_messages);
            for mut frame in frames {
                frame.mask = masks.next();
                frame.encode(&mut stream);
            }
        }
        if let Some(close) = close {
            let mut frame = whole(&close);
            frame.mask = masks.next();
            frame.encode(&mut stream);
            messages.push(close);
        }
        Conversation { messages, stream }
    })
}

/// Anything that may come in over a socket: conversations, conversations with some bytes changed, frames whose
/// fields are set at random, and noise.
pub(crate) fn stream() -> impl Strategy<Value = Vec<u8>> {
    let mutated = (conversation(), vec(mutation(), 1..4)).prop_map(|(conversation, mutations)| {
        let mut stream = conversation.stream;
        for (at, mutation) in mutations {
            mutation.apply(at, &mut stream);
        }
        stream
    });
    let frames = vec(odd_frame(), 1..6).prop_map(|frames| {
        let mut stream = Vec::new();
        frames.iter().for_each(|frame| frame.encode(&mut stream));
        stream
    });
    prop_oneof![
        conversation().prop_map(|conversation| conversation.stream),
        mutated,
        frames,
        vec(any::<u8>(), 0..200),
    ]
}

/// A limit that some streams exceed; no less than a control frame, because tungstenite counts those too.
pub(crate) fn limit() -> impl Strategy<Value = usize> {
    prop_oneof![Just(LIMIT), 125..400_usize]
}

/// The sizes of the reads that a stream comes in, from single bytes to all at once; repeated as needed.
pub(crate) fn reads() -> impl Strategy<Value = Vec<usize>> {
    vec(
        prop_oneof![Just(1), 1..8_usize, 1..300_usize, 1..200_000_usize],
        1..12,
    )
}

/// A data message in fragments with control frames between them, or a control frame alone: what arrives, in the
/// order in which it is whole, and the frames.
fn fragmented() -> impl Strategy<Value = (Vec<Message>, Vec<Frame>)> {
    let fragments = vec((any::<Index>(), proptest::option::weighted(0.3, control())), 0..5);
    let data = (data(), fragments).prop_map(|(message, fragments)| {
        let mut whole = whole(&message);
        let (mut cuts, controls): (Vec<_>, Vec<_>) = fragments
            .into_iter()
            .map(|(cut, control)| (cut.index(whole.payload.len() + 1), control))
            .unzip();
        cuts.sort_unstable();

        let (mut messages, mut frames) = (Vec::new(), Vec::new());
        let mut start = 0;
        for (cut, control) in cuts.into_iter().zip(controls) {
            frames.push(Frame {
                first: whole.first & !FIN,
                payload: whole.payload[start..cut].to_vec(),
                ..whole.clone()
            });
            whole.first = FIN; // a continuation from here on
            start = cut;
            if let Some(control) = control {
                frames.push(self::whole(&control));
                messages.push(control);
            }
        }
        whole.payload.drain(..start);
        frames.push(whole);
        messages.push(message);
        (messages, frames)
    });
    let control = control().prop_map(|message| {
        let frame = whole(&message);
        (vec![message], vec![frame])
    });
    prop_oneof![4 => data, 1 => control]
}

/// A message as one frame.
fn whole(message: &Message) -> Frame {
    let (opcode, payload) = match message {
        Message::Text(payload) => (0x1, payload.to_vec()),
        Message::Binary(payload) => (0x2, payload.to_vec()),
        Message::Ping(payload) => (0x9, payload.to_vec()),
        Message::Pong(payload) => (0xA, payload.to_vec()),
        Message::Close(None) => (0x8, Vec::new()),
        Message::Close(Some(CloseFrame { code, reason })) => {
            (0x8, [&code.to_be_bytes(), reason.as_bytes()].concat())
        }
    };
    Frame {
        first: FIN | opcode,
        mask: Some([0; 4]),
        length_bits: None,
        payload,
    }
}

/// Text and bytes of all lengths, with those where the header changes made likely.
pub(crate) fn data() -> impl Strategy<Value = Message> {
    let len = prop_oneof![
        8 => 0..200_usize,
        2 => 120..130_usize,
        1 => 65_530..65_540_usize,
    ];
    let bytes = (any::<u8>(), len).prop_map(|(first, len)| {
        let bytes = (0..len).map(|i| first.wrapping_add(i as u8)).collect();
        Message::Binary(bytes)
    });
    let text = vec(any::<char>(), 0..80).prop_map(|text| {
        let text: String = text.into_iter().collect();
        Message::Text(text.into())
    });
    prop_oneof![text, bytes]
}

pub(crate) fn control() -> impl Strategy<Value = Message> {
    (any::<bool>(), vec(any::<u8>(), 0..=125)).prop_map(|(ping, payload)| {
        let payload = Bytes::from(payload);
        if ping {
            Message::Ping(payload)
        } else {
            Message::Pong(payload)
        }
    })
}

fn close() -> impl Strategy<Value = Message> {
    let code = prop_oneof![1000..=1003_u16, 1007..=1014_u16, 3000..=4999_u16];
    let frame = (code, ".{0,30}").prop_map(|(code, reason)| CloseFrame { code, reason });
    proptest::option::of(frame).prop_map(Message::Close)
}

/// A frame in which anything may be wrong but need not be.
fn odd_frame() -> impl Strategy<Value = Frame> {
    let reserved = prop_oneof![9 => Just(0), 1 => (0..8_u8).prop_map(|bits| bits << 4)];
    let opcode = prop_oneof![9 => select(vec![0_u8, 1, 2, 8, 9, 10]), 1 => 0..16_u8];
    let fin = prop_oneof![2 => Just(FIN), 1 => Just(0)];
    let length_bits = prop_oneof![9 => Just(None), 1 => select(vec![Some(16), Some(64)])];
    let payload = prop_oneof![
        ".{0,40}".prop_map(String::into_bytes),
        vec(any::<u8>(), 0..140),
        (any::<u16>(), ".{0,10}").prop_map(|(code, reason)| [
            &(code % 5200).to_be_bytes(),
            reason.as_bytes()
        ]
        .concat()),
    ];
    let mask = proptest::option::weighted(0.95, any::<[u8; 4]>());
    (reserved, opcode, fin, length_bits, payload, mask).prop_map(
        |(reserved, opcode, fin, length_bits, payload, mask)| Frame {
            first: fin | reserved | opcode,
            mask,
            length_bits,
            payload,
        },
    )
}

/// What happens to a stream on its way.
#[derive(Debug, Clone)]
enum Mutation {
    Flip(u8),
    Insert(u8),
    Remove,
    Truncate,
}

fn mutation() -> impl Strategy<Value = (Index, Mutation)> {
    let mutation = prop_oneof![
        (0..8_u8).prop_map(|bit| Mutation::Flip(1 << bit)),
        any::<u8>().prop_map(Mutation::Insert),
        Just(Mutation::Remove),
        Just(Mutation::Truncate),
    ];
    (any::<Index>(), mutation)
}

impl Mutation {
    fn apply(self, at: Index, stream: &mut Vec<u8>) {
        if stream.is_empty() {
            return;
        }
        let at = at.index(stream.len());
        match self {
            Self::Flip(bits) => stream[at] ^= bits,
            Self::Insert(byte) => stream.insert(at, byte),
            Self::Remove => drop(stream.remove(at)),
            Self::Truncate => stream.truncate(at),
        }
    }
}
