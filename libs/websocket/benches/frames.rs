//! What the codec costs per message: a client's text frame parsed, a server's frame built.

use std::{hint::black_box, io::Write};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use tidings_websocket::{FrameBuilder, Parser, frame};

/// The payload of a typical publication.
const PAYLOAD: [u8; 132] = [b'x'; 132];

/// A client's text frame of [`PAYLOAD`].
fn client_frame() -> Vec<u8> {
    const MASK: [u8; 4] = [0xA1, 0xB2, 0xC3, 0xD4];
    let mut frame = vec![0x81, 0x80 | 126, 0, PAYLOAD.len() as u8];
    frame.extend(MASK);
    frame.extend(
        PAYLOAD
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
    frame
}

fn frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frames");
    group.throughput(Throughput::Bytes(PAYLOAD.len() as u64));

    let received = client_frame();
    let mut parser = Parser::new(1 << 16);
    group.bench_function("parse a text frame", |bencher| {
        bencher.iter_batched_ref(
            || received.clone(),
            |received| parser.next(&mut &mut received[..]),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("copy a payload into a frame", |bencher| {
        bencher.iter(|| frame::text(black_box(&PAYLOAD)));
    });
    group.bench_function("write a payload into a frame", |bencher| {
        bencher.iter(|| {
            let mut frame = FrameBuilder::text(PAYLOAD.len());
            frame.write_all(black_box(&PAYLOAD)).map(|()| frame.finish())
        });
    });
    group.finish();
}

criterion_group!(benches, frames);
criterion_main!(benches);
