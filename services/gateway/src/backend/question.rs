//! The questions, as they are on the wire: which answer belongs to which, and what all answers have in common.

use prost::Message;
use serde::{Serialize, de::DeserializeOwned};
use tidings_proto::proxy::{
    ConnectRequest, ConnectResponse, ConnectResult, Disconnect, Error, PublishRequest, PublishResponse,
    PublishResult, RefreshRequest, RefreshResponse, RefreshResult, RpcRequest, RpcResponse, RpcResult,
    SubRefreshRequest, SubRefreshResponse, SubRefreshResult, SubscribeRequest, SubscribeResponse,
    SubscribeResult,
};

/// Something that is asked.
pub(super) trait Question: Message + Serialize + 'static {
    type Answer: Answer;
    /// Its gRPC method.
    const METHOD: &'static str;
}

/// What the backend says to it: one of three things, or nothing at all.
pub(super) trait Answer: Message + DeserializeOwned + Default + 'static {
    type Result;

    fn parts(self) -> (Option<Self::Result>, Option<Error>, Option<Disconnect>);
}

macro_rules! questions {
    ($($question:ty => $answer:ty, $result:ty, $method:literal;)*) => {$(
        impl Question for $question {
            type Answer = $answer;
            const METHOD: &'static str = concat!("/centrifugal.centrifugo.proxy.CentrifugoProxy/", $method);
        }

        impl Answer for $answer {
            type Result = $result;

            fn parts(self) -> (Option<$result>, Option<Error>, Option<Disconnect>) {
                (self.result, self.error, self.disconnect)
            }
        }
    )*};
}

questions! {
    ConnectRequest => ConnectResponse, ConnectResult, "Connect";
    RefreshRequest => RefreshResponse, RefreshResult, "Refresh";
    SubscribeRequest => SubscribeResponse, SubscribeResult, "Subscribe";
    PublishRequest => PublishResponse, PublishResult, "Publish";
    RpcRequest => RpcResponse, RpcResult, "RPC";
    SubRefreshRequest => SubRefreshResponse, SubRefreshResult, "SubRefresh";
}
