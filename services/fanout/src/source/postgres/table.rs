//! The table, in SQL: is it as it has to be, which lanes have rows, what is in one, and what becomes of it.

use std::{collections::BTreeMap, fmt, time::Duration};

use tokio_postgres::{Client, Error as PgError, Row as PgRow, Statement, types::ToSql};

use super::row::{Key, MAX_DATA, NoPlainArray, Row};

/// How many lanes there are, as `deploy/postgres/outbox.sql` has it.
pub(super) const LANES: i16 = 64;

/// About the most bytes of data that are read of a lane at once; one row at the least.
const MAX_BYTES: i64 = 4 << 20;

/// The longest reason that is written down, in characters.
const MAX_WHY: usize = 2000;

/// A partition's key, as it is remembered.
const KEY: &str = "hashtextextended(coalesce(partition_key, event_id, id::text), 0)";

/// How long a statement may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// Every column that is used, with the types that it may have.
const COLUMNS: [(&str, &[&str]); 15] = [
    ("id", &["bigint"]),
    ("partition_key", &["text"]),
    ("event_id", &["text"]),
    ("type", &["text"]),
    ("source", &["text"]),
    ("subject", &["text"]),
    ("time", &["timestamp with time zone"]),
    ("data_content_type", &["text"]),
    ("data", &["jsonb", "json", "text", "bytea"]),
    ("attributes", &["jsonb", "json"]),
    ("tags", &["jsonb", "json"]),
    ("channels", &["text[]"]),
    ("failed_at", &["timestamp with time zone"]),
    ("failure", &["text"]),
    ("lane", &["smallint"]),
];

const SCHEMA: &str = "deploy/postgres/outbox.sql";

/// The name of a table: quoted, it is SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    quoted: String,
    /// Without the schema: what is notified.
    own: String,
}

/// Why a table cannot be used.
#[derive(Debug)]
pub(super) enum Error {
    /// The server did not answer, or said no.
    Server(PgError),
    /// The server did not answer in time.
    Late,
    /// It is not as it has to be: what is wrong, and what to do about it.
    Unfit(String),
}

/// A table that was found fit, in one session.
pub(super) struct Table<'c> {
    client: &'c Client,
    name: Name,
    /// What sets its locks apart from those of other tables.
    class: i32,
    read: Statement,
    again: Statement,
    waiting: Statement,
}

/// Rows in the order of their ids.
pub(super) struct Rows {
    pub(super) rows: Vec<Row>,
    /// Whether there may be more: as many were read as may be, or as much data.
    pub(super) more: bool,
}

impl Rows {
    /// `count`: the most that were asked for.
    fn of(rows: &[PgRow], count: usize) -> Self {
        let rows: Vec<_> = rows.iter().map(of).collect();
        let bytes: i64 = rows.iter().map(|row| row.size.min(MAX_DATA)).sum();
        Self {
            more: rows.len() >= count || bytes >= MAX_BYTES,
            rows,
        }
    }
}

/// A row that is to be set aside.
#[derive(Debug)]
pub(super) struct Dead {
    pub(super) id: i64,
    pub(super) why: String,
}

impl Name {
    /// Reads `table` or `schema.table`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let parts: Vec<_> = text.split('.').collect();
        let fit = |part: &&str| {
            let characters = part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            characters && (1..=63).contains(&part.len())
        };
        if parts.len() > 2 || !parts.iter().all(fit) {
            return Err("is no name of a table: letters, digits and '_', with a schema and a dot before it if need be".to_owned());
        }
        let quoted: Vec<_> = parts.iter().map(|part| format!("\"{part}\"")).collect();
        Ok(Self {
            quoted: quoted.join("."),
            own: parts.last().copied().unwrap_or_default().to_owned(),
        })
    }

    /// `LISTEN` for what the trigger of the table notifies.
    pub(super) fn listen(&self) -> String {
        format!("LISTEN \"{}\"", self.own)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.quoted)
    }
}

/// Does what is asked of the server within its time.
pub(super) async fn in_time<T>(asked: impl Future<Output = Result<T, PgError>>) -> Result<T, Error> {
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(answer) => answer.map_err(Error::Server),
        Err(_) => Err(Error::Late),
    }
}

impl<'c> Table<'c> {
    /// Looks at the table without changing anything.
    ///
    /// # Errors
    /// [`Error::Unfit`] says what to do.
    pub(super) async fn find(client: &'c Client, name: &Name) -> Result<Self, Error> {
        let columns = columns(client, name).await?;
        let oid = "SELECT to_regclass($1)::oid";
        let found = in_time(client.query_one(oid, &[&name.quoted])).await?;
        let class: Option<u32> = found.get(0);
        let Some(class) = class else {
            return Err(Error::Unfit(format!(
                "the table {name} is not there; create it with {SCHEMA}"
            )));
        };
        fit(name, &columns)?;
        permitted(client, name).await?;
        let data = match columns.get("data").map(String::as_str) {
            Some("bytea") => "data",
            _ => "convert_to(data::text, 'UTF8')",
        };
        // The data of the first rows that are not too much together; of one that is too long, only how long it is.
        let select = |rows: &str| {
            format!(
                "SELECT id, key, event_id, type, source, subject, time, data_content_type, size, \
                     CASE WHEN size <= {MAX_DATA} THEN data END AS data, attributes, tags, channels \
                 FROM (SELECT *, sum(least(size, {MAX_DATA})) OVER (ORDER BY id) - least(size, {MAX_DATA}) AS before \
                     FROM (SELECT *, coalesce(octet_length(data), 0)::bigint AS size \
                         FROM (SELECT id, {KEY} AS key, event_id, type, source, subject, time, \
                                 data_content_type, {data} AS data, attributes::text, tags::text, channels \
                             FROM {name} WHERE lane = $1 AND failed_at IS NULL AND {rows}) AS heads) AS sized) AS summed \
                 WHERE before < {MAX_BYTES} ORDER BY id"
            )
        };
        // One statement sees partitions as they are at one time: of none a later row is read and an earlier one is not.
        let read = select(&format!(
            "id > $3 AND id <= $4 AND NOT {KEY} = ANY($2) \
             AND {KEY} NOT IN (SELECT {KEY} FROM {name} WHERE lane = $1 AND failed_at IS NULL AND id <= $3) \
             ORDER BY id LIMIT $5"
        ));
        let again = select("id = ANY($2)");
        let waiting = format!(
            "SELECT number::smallint FROM generate_series(0, {LANES} - 1) AS number \
             WHERE EXISTS (SELECT FROM {name} WHERE lane = number AND failed_at IS NULL)"
        );
        Ok(Self {
            client,
            name: name.clone(),
            class: class.cast_signed(),
            read: in_time(client.prepare(&read)).await?,
            again: in_time(client.prepare(&again)).await?,
            waiting: in_time(client.prepare(&waiting)).await?,
        })
    }

    /// The lanes that have rows.
    pub(super) async fn waiting(&self) -> Result<Vec<i16>, Error> {
        let rows = in_time(self.client.query(&self.waiting, &[])).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Takes a lane, unless another session has it. It is had until [`leave`](Self::leave), or the session's end.
    pub(super) async fn enter(&self, lane: i16) -> Result<bool, Error> {
        let lock = "SELECT pg_try_advisory_lock($1, $2)";
        let taken = in_time(self.client.query_one(lock, &[&self.class, &i32::from(lane)])).await?;
        Ok(taken.get(0))
    }

    /// Lets go of a lane.
    pub(super) async fn leave(&self, lane: i16) -> Result<(), Error> {
        let unlock = "SELECT pg_advisory_unlock($1, $2)";
        in_time(self.client.query_one(unlock, &[&self.class, &i32::from(lane)])).await?;
        Ok(())
    }

    /// The first rows of a lane behind one id and up to another, at most `count`, without those of the partitions `keys` and
    /// of partitions that begin earlier. The lane has to be this session's: only what is read after it was taken is nobody
    /// else's.
    pub(super) async fn read(
        &self,
        lane: i16,
        keys: &[Key],
        ids: (i64, i64),
        count: usize,
    ) -> Result<Rows, Error> {
        let (behind, up_to) = ids;
        let most = i64::try_from(count).unwrap_or(i64::MAX);
        let parameters: [&(dyn ToSql + Sync); 5] = [&lane, &keys, &behind, &up_to, &most];
        let rows = in_time(self.client.query(&self.read, &parameters)).await?;
        Ok(Rows::of(&rows, count))
    }

    /// The rows of a lane with these ids: those that are still there. The lane has to be this session's.
    pub(super) async fn again(&self, lane: i16, ids: &[i64]) -> Result<Rows, Error> {
        let rows = in_time(self.client.query(&self.again, &[&lane, &ids])).await?;
        Ok(Rows::of(&rows, usize::MAX))
    }

    /// Removes rows that are published.
    pub(super) async fn delete(&self, ids: &[i64]) -> Result<(), Error> {
        let delete = format!("DELETE FROM {} WHERE id = ANY($1)", self.name);
        in_time(self.client.execute(&delete, &[&ids])).await?;
        Ok(())
    }

    /// Leaves rows where they are, with why they will not be tried again.
    pub(super) async fn set_aside(&self, dead: &[&Dead]) -> Result<(), Error> {
        let update = format!(
            "UPDATE {} AS outbox SET failed_at = now(), failure = dead.why \
             FROM unnest($1::bigint[], $2::text[]) AS dead (id, why) WHERE outbox.id = dead.id",
            self.name
        );
        let ids: Vec<i64> = dead.iter().map(|dead| dead.id).collect();
        let whys: Vec<String> = dead.iter().map(|dead| reason(&dead.why)).collect();
        in_time(self.client.execute(&update, &[&ids, &whys])).await?;
        Ok(())
    }
}

/// A reason that can be written down: no text of PostgreSQL has the character 0.
fn reason(why: &str) -> String {
    why.chars()
        .filter(|&character| character != '\0')
        .take(MAX_WHY)
        .collect()
}

/// The columns that there are, and their types. None: there is no such table.
async fn columns(client: &Client, name: &Name) -> Result<BTreeMap<String, String>, Error> {
    let ask = "SELECT attname::text, format_type(atttypid, NULL) FROM pg_attribute \
               WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped";
    let rows = in_time(client.query(ask, &[&name.quoted])).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

fn fit(name: &Name, columns: &BTreeMap<String, String>) -> Result<(), Error> {
    let wrong = COLUMNS
        .iter()
        .filter_map(|(column, types)| match columns.get(*column) {
            Some(found) if types.contains(&found.as_str()) => None,
            Some(found) => Some(format!("{column} is {found} and not {}", types.join(" or "))),
            None => Some(format!("{column} is not there")),
        });
    let wrong: Vec<_> = wrong.collect();
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Error::Unfit(format!(
        "the table {name} is not as it has to be ({}); compare it with {SCHEMA}",
        wrong.join(", ")
    )))
}

async fn permitted(client: &Client, name: &Name) -> Result<(), Error> {
    let ask = "SELECT has_table_privilege($1, 'SELECT'), has_table_privilege($1, 'DELETE'), \
               has_column_privilege($1, 'failed_at', 'UPDATE') AND has_column_privilege($1, 'failure', 'UPDATE')";
    let may = in_time(client.query_one(ask, &[&name.quoted])).await?;
    let needed = ["SELECT", "DELETE", "UPDATE (failed_at, failure)"];
    let lacks: Vec<_> = (0..needed.len())
        .filter(|&at| !may.get::<_, bool>(at))
        .map(|at| needed[at])
        .collect();
    if lacks.is_empty() {
        return Ok(());
    }
    Err(Error::Unfit(format!(
        "the user may not do all that is needed; GRANT {} ON {name} to it",
        lacks.join(", ")
    )))
}

/// What cannot be read is as good as absent, but for channels: an event that names some goes nowhere else.
fn of(row: &PgRow) -> Row {
    let text = |name| row.try_get(name).ok().flatten();
    Row {
        id: row.get("id"),
        key: row.get("key"),
        event_id: text("event_id").unwrap_or_default(),
        kind: text("type"),
        source: text("source"),
        subject: text("subject"),
        time: row.try_get("time").ok().flatten(),
        content_type: text("data_content_type"),
        size: row.get("size"),
        data: row.get("data"),
        attributes: text("attributes"),
        tags: text("tags"),
        channels: row.try_get("channels").map_err(|_| NoPlainArray),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_quoted_and_nothing_else_gets_into_sql() {
        let quoted = |text| Name::parse(text).map(|name| name.to_string());
        assert_eq!(quoted("tidings_outbox").unwrap(), "\"tidings_outbox\"");
        assert_eq!(quoted("shop.Outbox2").unwrap(), "\"shop\".\"Outbox2\"");
        assert_eq!(Name::parse("shop.outbox").unwrap().listen(), "LISTEN \"outbox\"");
        for wrong in ["", ".", "a.", "a.b.c", "a b", "a\"b", "a;b", "\u{e9}"] {
            assert!(quoted(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_a_table_lacks_is_named() {
        let mut columns: BTreeMap<_, _> = COLUMNS
            .iter()
            .map(|(name, types)| ((*name).to_owned(), types[0].to_owned()))
            .collect();
        let name = Name::parse("outbox").unwrap();
        assert!(fit(&name, &columns).is_ok());
        columns.remove("lane");
        columns.insert("data".to_owned(), "xml".to_owned());
        let Err(Error::Unfit(why)) = fit(&name, &columns) else {
            panic!("it is not fit");
        };
        assert!(
            why.contains("data is xml and not jsonb or json or text or bytea, lane is not there"),
            "{why}"
        );
        assert!(why.contains(SCHEMA), "{why}");
    }
}
