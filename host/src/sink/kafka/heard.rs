//! What librdkafka says beside its answers: whether brokers are there, and which messages did not arrive.

use crate::source::kafka::is_away;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::{DeliveryResult, ProducerContext};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Shared by the clients of one connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard(Arc<Mutex<Said>>);

#[derive(Debug, Default)]
struct Said {
    last: Option<String>,
    denied: Option<String>,
    failed: Option<KafkaError>,
}

impl Heard {
    fn said(&self) -> MutexGuard<'_, Said> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last thing that was said of brokers that do not answer.
    pub(super) fn last(&self) -> Option<String> {
        self.said().last.clone()
    }

    /// The brokers do not let this user in.
    pub(super) fn denied(&self) -> Option<String> {
        self.said().denied.clone()
    }

    /// The first message that did not arrive since this was asked last.
    pub(super) fn take_failed(&self) -> Option<KafkaError> {
        self.said().failed.take()
    }
}

impl ClientContext for Heard {
    // Its lines name addresses and repeat without end; what matters of them comes as an error too.
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(Code::Authentication | Code::SaslAuthenticationFailed) => {
                self.said().denied = Some(reason.to_owned());
            }
            Some(code) if is_away(code) || code == Code::BrokerTransportFailure => {
                self.said().last = Some(reason.to_owned());
            }
            _ => {}
        }
    }
}

impl ConsumerContext for Heard {}

impl ProducerContext for Heard {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.said().failed.get_or_insert_with(|| error.clone());
        }
    }
}
