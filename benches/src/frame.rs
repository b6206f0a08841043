//! What is sent: one publication whose data says when it was sent, and the gateway's frame of it.
//!
//! All frames have one length, so that receivers count bytes.

use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use bytes::Bytes;
use tidings_core::{Channel, Format, Publication};
use tidings_protocol::{Push, centrifuge};
use tidings_websocket::FrameBuilder;

/// Everyone subscribes to it. Its namespace keeps no presence.
pub(crate) const CHANNEL: &str = "bench:all";

/// Bytes of data.
const PAYLOAD: usize = 128;

/// What comes before the time in the data, and what after.
const BEFORE: &str = r#"{"at":""#;
const AFTER: &str = r#"","fill":""#;
const END: &str = r#""}"#;

/// Digits of the time: nanoseconds since 1970.
const DIGITS: usize = 20;

/// A publication that is sent now.
pub(crate) fn publication() -> Publication {
    let (at, now) = (since_1970(), SystemTime::now());
    let fill = PAYLOAD - BEFORE.len() - DIGITS - AFTER.len() - END.len();
    let data = format!(
        "{BEFORE}{:0DIGITS$}{AFTER}{}{END}",
        at.as_nanos(),
        "x".repeat(fill)
    );
    Publication::new(data.into(), Format::Json, now)
}

/// The channel of [`CHANNEL`].
pub(crate) fn channel() -> anyhow::Result<Channel> {
    Channel::parse(CHANNEL).context("the channel's name")
}

/// The frame that a gateway makes of a publication for Centrifuge clients.
pub(crate) fn of(channel: &Channel, publication: &Publication) -> anyhow::Result<Bytes> {
    let mut frame = FrameBuilder::text(publication.data.len() + 128);
    centrifuge::json::push(Push::Publication(channel, publication), &mut frame)
        .map_err(|reason| anyhow::anyhow!("the publication has no frame: {}", reason.text()))?;
    Ok(frame.finish())
}

/// Where in a frame the time lies, and how long a frame is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    time: usize,
    pub(crate) len: usize,
}

impl Layout {
    /// Looks at a frame.
    pub(crate) fn learn() -> anyhow::Result<Self> {
        let frame = of(&channel()?, &publication())?;
        let data = frame
            .windows(BEFORE.len())
            .position(|part| part == BEFORE.as_bytes());
        Ok(Self {
            time: data.context("the frame lacks its data")? + BEFORE.len(),
            len: frame.len(),
        })
    }

    /// How long ago this frame was sent; `None` for one that is not of this layout.
    pub(crate) fn age(&self, frame: &[u8], now: Duration) -> Option<Duration> {
        let digits = frame.get(self.time..self.time + DIGITS)?;
        let sent = std::str::from_utf8(digits).ok()?.parse().ok()?;
        Some(now.saturating_sub(Duration::from_nanos(sent)))
    }
}

/// The time, as all processes of this machine have it.
pub(crate) fn since_1970() -> Duration {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_frames_have_one_length_and_tell_when_they_were_sent() {
        let (before, layout) = (since_1970(), Layout::learn().unwrap());
        let publication = publication();
        assert_eq!(publication.data.len(), PAYLOAD);
        let frame = of(&channel().unwrap(), &publication).unwrap();
        assert_eq!(frame.len(), layout.len);
        let now = since_1970();
        assert!(layout.age(&frame, now).unwrap() <= now - before);
        assert_eq!(layout.age(&frame[1..], now), None);
    }
}
