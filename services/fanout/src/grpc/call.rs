//! What a call brings beside its message: whose it is, which trace it is part of, and how long its caller waits.

use std::{future::Future, sync::Arc, time::Duration};

use tidings_auth::Key;
use tidings_telemetry::trace;
use tokio::time::Instant;
use tonic::{Request, Status, metadata::MetadataMap};

use super::{caller, caller_trace, status};

/// How long an answer may take to its caller.
const TO_SAY_SO: Duration = Duration::from_millis(100);

/// A call, without its message.
#[derive(Clone)]
pub(super) struct Call {
    /// Whose it is; `None` where no key is asked for.
    pub(super) key: Option<Arc<Key>>,
    pub(super) trace: Option<trace::Context>,
    /// When the caller no longer waits.
    pub(super) deadline: Option<Instant>,
}

impl Call {
    pub(super) fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        let timeout = timeout(request.metadata());
        Ok(Self {
            key: caller(request)?,
            trace: caller_trace(request),
            deadline: timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
        })
    }

    /// Does `work` for as long as the caller waits.
    pub(super) async fn within<T>(&self, work: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
        match self.deadline {
            Some(deadline) => match tokio::time::timeout_at(deadline, work).await {
                Ok(done) => done,
                Err(_) => Err(status::late()),
            },
            None => work.await,
        }
    }

    /// Until when an event of this call may wait for the bus: long enough before its end that the caller hears why.
    pub(super) fn patience(&self) -> Option<Instant> {
        self.deadline?.checked_sub(TO_SAY_SO)
    }

    /// Completes when the caller no longer waits.
    pub(super) async fn late(deadline: Option<Instant>) {
        match deadline {
            Some(deadline) => tokio::time::sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    }
}

/// The `grpc-timeout` of a call: at most eight digits and a unit (gRPC over HTTP/2, "Requests"). One that is none is
/// nobody's wish.
fn timeout(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 60 * 60),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_lasts_as_long_as_its_caller_waits() {
        let mut request = Request::new(());
        request
            .metadata_mut()
            .insert("grpc-timeout", "2S".parse().unwrap());
        request.extensions_mut().insert(super::super::Caller(None));
        let call = Call::of(&request).unwrap();
        let start = Instant::now();
        assert_eq!(call.patience(), Some(start + Duration::from_millis(1900)));
        let never: Result<(), _> = call.within(std::future::pending()).await;
        assert_eq!(never.unwrap_err().code(), tonic::Code::DeadlineExceeded);
        assert_eq!(start.elapsed(), Duration::from_secs(2));
        assert_eq!(
            Call {
                deadline: None,
                ..call
            }
            .within(async { Ok(1) })
            .await
            .unwrap(),
            1
        );
    }

    #[test]
    fn a_timeout_is_read_in_all_its_units_and_nonsense_is_none() {
        let check = |text: &str, expected| {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", text.parse().unwrap());
            assert_eq!(timeout(&metadata), expected, "{text:?}");
        };
        check("1H", Some(Duration::from_secs(3600)));
        check("2M", Some(Duration::from_secs(120)));
        check("3S", Some(Duration::from_secs(3)));
        check("99999999m", Some(Duration::from_millis(99_999_999)));
        check("5u", Some(Duration::from_micros(5)));
        check("0n", Some(Duration::ZERO));
        for nonsense in ["", "S", "1", "-1S", "1.5S", "123456789S", "1s", "1 S", "1\u{b5}"] {
            if let Ok(value) = nonsense.parse() {
                let mut metadata = MetadataMap::new();
                metadata.insert("grpc-timeout", value);
                assert_eq!(timeout(&metadata), None, "{nonsense:?}");
            }
        }
        assert_eq!(timeout(&MetadataMap::new()), None);
    }
}
