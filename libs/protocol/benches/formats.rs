//! What the formats cost per message: a client's commands read, a server's pushes written.

use std::{hint::black_box, time::SystemTime};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tidings_core::{Channel, Format, Position, Publication};
use tidings_protocol::{
    Push,
    centrifuge::{json, protobuf},
    delta,
};

/// What the JavaScript SDK sends first: who it is, and two channels.
const SUBSCRIBE: &[u8] = br#"{"connect":{"token":"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI0MiJ9.aGVsbG8gd29ybGQsIGhlbGxvIHdvcmxk","name":"js"},"id":1}
{"subscribe":{"channel":"tasks:42","flag":1},"id":2}
{"subscribe":{"channel":"news","recover":true,"offset":1700,"epoch":"xyz","flag":1},"id":3}"#;

const PUBLISH: &[u8] = br#"{"id":7,"publish":{"channel":"tasks:42","data":{"sensor":"kitchen","unit":"celsius","value":20.5,"tags":["a","b"],"note":"all is well"}}}"#;

/// The same publish: id, then channel and data, each after its tag and length.
fn publish_protobuf() -> Bytes {
    let (channel, data) = (b"tasks:42", payload("20.5"));
    let mut publish = vec![0x0A, channel.len() as u8];
    publish.extend(channel);
    publish.extend([0x12, data.len() as u8]);
    publish.extend(&data);
    let mut command = vec![0x08, 7, 0x3A, publish.len() as u8];
    command.extend(publish);
    command.insert(0, command.len() as u8);
    command.into()
}

fn payload(value: &str) -> Bytes {
    format!(r#"{{"sensor":"kitchen","unit":"celsius","value":{value},"note":"all is well"}}"#).into()
}

/// A payload as large as they get in practice: a list of which one line changes.
fn list(changed: usize) -> Bytes {
    let lines = (0..64).map(|n| {
        format!(
            r#"{{"n":{n},"text":"line {}"}}"#,
            if n == changed { 0 } else { n * 7919 }
        )
    });
    format!("[{}]", lines.collect::<Vec<_>>().join(",")).into()
}

fn publication(data: Bytes) -> Publication {
    Publication {
        position: Some(Position {
            offset: 1700,
            epoch: "xyz".into(),
        }),
        ..Publication::new(data, Format::Json, SystemTime::UNIX_EPOCH)
    }
}

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    let publish = publish_protobuf();
    assert!(protobuf::commands(publish.clone()).all(|command| command.is_ok()));
    for (name, frame) in [
        ("first frame of an SDK, JSON", SUBSCRIBE),
        ("publish, JSON", PUBLISH),
    ] {
        group.throughput(Throughput::Bytes(frame.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| json::commands(black_box(frame)).filter(Result::is_ok).count());
        });
    }
    group.throughput(Throughput::Bytes(publish.len() as u64));
    group.bench_function("publish, Protobuf", |bencher| {
        bencher.iter(|| {
            protobuf::commands(black_box(publish.clone()))
                .filter(Result::is_ok)
                .count()
        });
    });
    group.finish();
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    let channel = Channel::parse("tasks:42").expect("a good name");
    let (base, target) = (payload("20.5"), payload("21.5"));
    let publication = publication(target.clone());
    let patch = delta::fossil(&base, &target).expect("they have much in common");
    let whole = Push::Publication(&channel, &publication);
    let difference = Push::Delta(&channel, &publication, Some(&patch));
    group.throughput(Throughput::Bytes(publication.data.len() as u64));
    for (name, push) in [("push, JSON", whole), ("push as a difference, JSON", difference)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut frame = Vec::with_capacity(256);
                json::push(black_box(push), &mut frame).map(|()| frame)
            });
        });
    }
    for (name, push) in [
        ("push, Protobuf", whole),
        ("push as a difference, Protobuf", difference),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut frame = Vec::with_capacity(256);
                protobuf::push(black_box(push), &mut frame);
                frame
            });
        });
    }
    group.finish();
}

fn difference(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("difference");
    for (name, base, target) in [
        ("of a small payload", payload("20.5"), payload("21.5")),
        ("of a list of 64", list(64), list(30)),
    ] {
        group.throughput(Throughput::Bytes(target.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| delta::fossil(black_box(&base), black_box(&target)));
        });
    }
    group.finish();
}

criterion_group!(benches, decode, encode, difference);
criterion_main!(benches);
