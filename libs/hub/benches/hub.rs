//! What the hub costs: a connection comes to a channel and leaves it, and a frame goes to all who are there.

use std::{hint::black_box, iter};

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use tidings_core::Channel;
use tidings_hub::{Hub, Outbox};

/// The members of a crowded channel.
const MEMBERS: u32 = 10_000;

/// More than waits for any of them here.
const LIMIT: usize = 1 << 20;

fn channel(name: &str) -> Channel {
    Channel::parse(name).expect("a good name")
}

/// A hub where all hear one channel.
fn crowded(news: &Channel) -> Hub<u32, ()> {
    let mut hub = Hub::new();
    for member in 0..MEMBERS {
        hub.claim(news);
        hub.join(news, member, ());
    }
    hub
}

fn join_and_leave(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hub");
    let (news, own) = (channel("news"), channel("tasks:42"));
    let mut hub = crowded(&news);
    for (name, channel) in [
        ("join and leave a crowded channel", news),
        ("join and leave an own channel", own),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                hub.claim(black_box(&channel));
                hub.join(&channel, MEMBERS, ());
                hub.release(&channel, MEMBERS)
            });
        });
    }
    group.finish();
}

fn broadcast(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("broadcast");
    group.throughput(Throughput::Elements(MEMBERS.into()));
    let news = channel("news");
    let mut hub = crowded(&news);
    let frame = Bytes::from(vec![b'x'; 132]);
    for (name, frames) in [("one frame to all", 1), ("sixteen frames to all", 16)] {
        group.bench_function(name, |bencher| {
            bencher.iter_batched_ref(
                || {
                    iter::repeat_with(Outbox::default)
                        .take(MEMBERS as usize)
                        .collect::<Vec<_>>()
                },
                |outboxes| {
                    for _ in 0..frames {
                        for (member, ()) in hub.members(black_box(&news)) {
                            let _ = outboxes[member as usize].push(frame.clone(), LIMIT);
                        }
                    }
                },
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, join_and_leave, broadcast);
criterion_main!(benches);
