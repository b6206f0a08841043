//! What the SDKs' own READMEs show first works as it stands there, but for the URL.

use std::time::Duration;

use serde_json::json;
use tidings_tests::{
    Backend, CONFIG, Launch, Way, event, eventually, has_node, node, python, subscription_token, token,
};

#[tokio::test]
async fn the_quick_start_of_the_javascript_sdk() {
    if !has_node() {
        return;
    }
    let server = Launch::new("dev").config("").start().await;
    let url = server.websocket();
    let publish_when_it_listens = async {
        eventually("it has subscribed", async || {
            (server.metric("tidings_subscriptions").await == 1.0).then_some(())
        })
        .await;
        let backend = Backend::new(&server.backends()).with_key(None);
        backend
            .publish(event("news.published", "\"Hello\"", &["news"]))
            .await
            .unwrap();
    };
    let arguments = [url.as_str()];
    let (heard, ()) = tokio::join!(node("readme.mjs", &arguments), publish_when_it_listens);
    assert_eq!(
        (&heard["type"], &heard["data"]),
        (&json!("news.published"), &json!("Hello"))
    );
}

#[tokio::test]
async fn the_example_of_the_python_sdk() {
    if !Way::Python.is_installed() {
        return;
    }
    let example = r#"
[[namespace]]
name = "example"
presence = true
history_size = 10
history_ttl = "60s"
allow_publish_for_subscriber = true
allow_presence_for_subscriber = true
allow_history_for_subscriber = true
"#;
    let config = format!("{CONFIG}{example}");
    let server = Launch::new("standalone").config(&config).start().await;
    let allowed = subscription_token("42", "example:channel", Duration::from_secs(60));
    let said = python("readme.py", &[&server.websocket(), &token("42"), &allowed]).await;
    let input = json!({ "input": "test" });
    assert_eq!(
        said,
        json!({ "heard": input, "presence": 1, "stats": 1, "history": [input] })
    );
}
