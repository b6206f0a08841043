//! What is served at the internal door: presence, health and reflection.

use tidings_proto::presence::presence_server::{PresenceServer, SERVICE_NAME};
use tonic::service::Routes;

use super::Service;
use crate::Presence;

pub(crate) async fn internal(presence: &Presence) -> Routes {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<PresenceServer<Service>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(tidings_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .with_service_name(SERVICE_NAME)
        .with_service_name("grpc.health.v1.Health")
        .build_v1()
        .expect("the descriptors were compiled with the program");
    Routes::new(presence.internal())
        .add_service(health)
        .add_service(reflection)
}
