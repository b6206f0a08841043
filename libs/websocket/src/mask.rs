//! Masking (RFC 6455 section 5.3): each byte of a client's payload is XORed with one of the mask's four.

/// Unmasks a piece of a payload in place and returns the mask as it stands for the piece that follows.
///
/// Works by words of eight bytes, which the compiler turns into vector instructions.
pub(crate) fn unmask(piece: &mut [u8], mut mask: [u8; 4]) -> [u8; 4] {
    let [a, b, c, d] = mask;
    let word = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (chunks, rest) = piece.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ word).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= key;
    }
    mask.rotate_left(rest.len() % 4);
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

    /// The formula of the RFC, byte by byte.
    fn naive(payload: &[u8]) -> Vec<u8> {
        payload.iter().enumerate().map(|(i, b)| b ^ MASK[i % 4]).collect()
    }

    #[test]
    fn words_and_bytes_give_the_same_at_every_length() {
        for len in 0..64_u8 {
            let mut payload: Vec<u8> = (0..len).collect();
            let expected = naive(&payload);
            unmask(&mut payload, MASK);
            assert_eq!(payload, expected, "length {len}");
        }
    }

    #[test]
    fn the_mask_continues_over_pieces_cut_anywhere() {
        let payload: Vec<u8> = (0..40).collect();
        for cut in 0..payload.len() {
            let mut pieces = payload.clone();
            let (head, tail) = pieces.split_at_mut(cut);
            let mask = unmask(head, MASK);
            unmask(tail, mask);
            assert_eq!(pieces, naive(&payload), "cut at {cut}");
        }
    }
}
