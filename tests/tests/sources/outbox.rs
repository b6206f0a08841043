//! A PostgreSQL with an outbox in it, and nodes that empty it.

use tidings_tests::{CONFIG, Client as Reader, Postgres, Session, eventually};

/// The outbox of the tests, as a backend and an operator see it.
pub(crate) struct Outbox(pub(crate) Session);

/// A source of the outbox of `server`, with further keys of `[[source]]` and `[source.postgres]`.
pub(crate) fn config(server: &Postgres, source: &str, postgres: &str) -> String {
    let url = server.url();
    format!(
        "{CONFIG}\n[[source]]\nname = \"shop\"\n{source}\n[source.postgres]\nurl = \"{url}\"\n{postgres}\n"
    )
}

impl Outbox {
    pub(crate) async fn of(server: &Postgres) -> Self {
        Self(server.session().await)
    }

    /// Inserts an event for `tasks:1`.
    pub(crate) async fn add(&self, partition: Option<&str>, data: &str) {
        let insert = "INSERT INTO tidings_outbox (partition_key, type, data, channels) \
                      VALUES ($1, 'task.created', $2::text::jsonb, '{tasks:1}')";
        self.0.execute(insert, &[&partition, &data]).await.unwrap();
    }

    /// Inserts number by number, each in a transaction of its own.
    pub(crate) async fn add_numbers(&self, partition: &str, numbers: std::ops::Range<u64>) {
        for number in numbers {
            let data = format!(r#"["{partition}", {number}]"#);
            self.add(Some(partition), &data).await;
        }
    }

    pub(crate) async fn count(&self, condition: &str) -> i64 {
        let ask = format!("SELECT count(*) FROM tidings_outbox WHERE {condition}");
        self.0.query_one(&ask, &[]).await.unwrap().get(0)
    }

    /// Waits until nothing is left but what was set aside.
    pub(crate) async fn settled(&self) {
        eventually("the outbox is empty", async || {
            (self.count("failed_at IS NULL").await == 0).then_some(())
        })
        .await;
    }
}

/// The partitions and numbers that a client hears: so many.
pub(crate) async fn heard(reader: &mut Reader, count: usize) -> Vec<(String, u64)> {
    let mut heard = Vec::new();
    while heard.len() < count {
        let (_, event) = reader.hear().await;
        let (partition, number) = (&event["data"][0], &event["data"][1]);
        heard.push((partition.as_str().unwrap().to_owned(), number.as_u64().unwrap()));
    }
    heard
}

/// What was heard has each number of each partition once, and in order.
#[track_caller]
pub(crate) fn assert_in_order(heard: &[(String, u64)], partitions: &[&str], count: u64) {
    for partition in partitions {
        let numbers = heard.iter().filter(|(key, _)| key == partition);
        let numbers: Vec<_> = numbers.map(|(_, number)| *number).collect();
        assert_eq!(numbers, (0..count).collect::<Vec<_>>(), "of {partition}");
    }
}
