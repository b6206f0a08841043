use super::*;

fn proxy(endpoint: &str) -> Proxy {
    Proxy {
        endpoint: endpoint.to_owned(),
        ..Proxy::default()
    }
}

fn error(proxy: Proxy) -> String {
    let config = Config {
        rpc: Some(proxy),
        ..Config::default()
    };
    config.check().unwrap_err().to_string()
}

#[test]
fn an_endpoint_is_http_with_a_path_or_grpc_without() {
    for endpoint in [
        "http://backend/rpc",
        "https://backend:8443",
        "grpc://backend:50051",
        "grpcs://backend",
    ] {
        assert!(proxy(endpoint).check("rpc").is_ok(), "{endpoint}");
    }
    for endpoint in [
        "",
        "backend",
        "ws://backend",
        "http://",
        "http:///path",
        "grpc://a b",
    ] {
        let error = error(proxy(endpoint));
        assert!(
            error.starts_with("clients.proxy.rpc.endpoint: expected http://host/path"),
            "{error}"
        );
    }
    assert!(error(proxy("grpc://backend:50051/Service")).contains("remove the path"));
}

#[test]
fn an_endpoint_with_a_password_is_refused_and_neither_it_nor_a_query_is_shown() {
    let error = error(proxy("http://me:hunter2@backend/"));
    assert!(
        error.contains("static_headers") && !error.contains("hunter2"),
        "{error}"
    );
    let address = proxy("http://backend/rpc?key=hunter2")
        .check("rpc")
        .unwrap()
        .address;
    assert_eq!(
        (&*address.shown, &*address.host),
        ("http://backend/rpc", "backend")
    );
    assert_eq!(address.uri.query(), Some("key=hunter2"));
}

#[test]
fn values_that_cannot_be_meant_are_refused_by_their_keys() {
    let good = proxy("http://backend/");
    let timeout = Proxy {
        timeout: Duration::ZERO,
        ..good.clone()
    };
    assert!(error(timeout).starts_with("clients.proxy.rpc.timeout: "));
    let concurrency = Proxy {
        concurrency: 0,
        ..good.clone()
    };
    assert!(error(concurrency).starts_with("clients.proxy.rpc.concurrency: must be from 1"));
    for name in ["Host", "content-length", "grpc-timeout", "a b", ""] {
        let copied = Proxy {
            http_headers: vec![name.to_owned()],
            ..good.clone()
        };
        assert!(
            error(copied).starts_with("clients.proxy.rpc.http_headers: "),
            "{name}"
        );
    }
    let secret = Secret::from("hunter2\n".to_owned());
    let fixed = Proxy {
        static_headers: [("authorization".to_owned(), secret)].into(),
        ..good
    };
    let error = error(fixed);
    assert!(error.starts_with("clients.proxy.rpc.static_headers: the value of \"authorization\""));
    assert!(!error.contains("hunter2"));
}

#[test]
fn a_namespace_that_asks_a_backend_which_is_not_there_is_refused_with_both_names() {
    let namespace = Namespace {
        name: "tasks".to_owned(),
        sub_refresh_proxy_enabled: true,
        ..Namespace::default()
    };
    let mut config = Config::default();
    let error = config
        .serve(std::slice::from_ref(&namespace))
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("clients.proxy.sub_refresh.endpoint: "),
        "{error}"
    );
    assert!(
        error.contains("\"tasks\" has `sub_refresh_proxy_enabled`"),
        "{error}"
    );
    config.sub_refresh = Some(proxy("http://backend/"));
    assert_eq!(config.serve(&[namespace]), Ok(()));
}

#[test]
fn headers_that_several_questions_need_are_kept_once() {
    let with = |names: &[&str]| {
        let http_headers = names.iter().map(|&name| name.to_owned()).collect();
        Some(Proxy {
            http_headers,
            ..proxy("http://backend/")
        })
    };
    let config = Config {
        connect: with(&["Cookie", "X-Forwarded-For"]),
        rpc: with(&["cookie"]),
        ..Config::default()
    };
    assert_eq!(config.kept_headers(), ["cookie", "x-forwarded-for"]);
}

#[test]
fn what_is_printed_has_no_secrets() {
    let secret = Secret::from("hunter2".to_owned());
    let proxy = Proxy {
        static_headers: [("authorization".to_owned(), secret)].into(),
        ..proxy("http://backend/")
    };
    assert!(!serde_json::to_string(&proxy).unwrap().contains("hunter2"));
}

#[test]
fn what_stands_behind_an_endpoints_question_mark_is_not_shown() {
    let shown = |endpoint: &str| {
        let proxy = Proxy {
            endpoint: endpoint.to_owned(),
            ..Proxy::default()
        };
        serde_json::to_value(proxy).unwrap()["endpoint"].clone()
    };
    assert_eq!(
        shown("https://b.example.com/ask?key=secret"),
        "https://b.example.com/ask?***"
    );
    assert_eq!(shown("grpc://b.example.com:9000"), "grpc://b.example.com:9000");
}
