//! What it costs to find the channels of an event among many routes. The cost must not grow with their number.

use std::{collections::BTreeMap, hint::black_box, time::UNIX_EPOCH};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use tidings_core::Event;
use tidings_fanout::{Route, Routes};

/// As in a large configuration: a few routes for each of many event types, and some for all.
fn routes(count: usize) -> Routes {
    let routes: Vec<_> = (0..count)
        .map(|number| {
            let event = match number % 4 {
                0 => format!("service{}.task.created", number / 4),
                1 => format!("service{}.task.*", number / 4),
                2 => format!("service{}.**", number / 4),
                _ => format!("*.kind{number}.**.done"),
            };
            Route {
                event,
                channels: vec!["tasks:{tenant}".to_owned(), "user:{data.assignee.id}".to_owned()],
                ..Route::default()
            }
        })
        .collect();
    Routes::compile(&routes).expect("good routes")
}

fn event() -> Event {
    Event {
        id: "0199c0de-0000-7000-8000-000000000001".to_owned(),
        kind: "service20.task.created".to_owned(),
        source: "task-service".to_owned(),
        subject: None,
        time: UNIX_EPOCH,
        data_content_type: "application/json".to_owned(),
        data: r#"{"id": 42, "title": "Write the report", "assignee": {"id": "ada"}}"#.into(),
        attributes: BTreeMap::from([("tenant".to_owned(), "acme".to_owned())]),
        tags: BTreeMap::new(),
    }
}

fn targets(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("an event's channels, by routes");
    let event = event();
    for count in [100, 1000, 10_000] {
        let routes = routes(count);
        assert_eq!(routes.targets(&event).map(|targets| targets.len()), Ok(2));
        group.bench_with_input(BenchmarkId::from_parameter(count), &event, |bencher, event| {
            bencher.iter(|| routes.targets(black_box(event)));
        });
    }
    group.finish();
}

criterion_group!(benches, targets);
criterion_main!(benches);
