//! The manager and the discovery service this node may serve, as one task of one thread.

use std::task::{Context, Poll};

use super::error::NodeError;
use super::manager::Manager;
use super::runtime::Task;
#[cfg(feature = "service")]
use super::service::Serving;

/// See the module.
pub(super) struct ControlPlane {
    pub(super) manager: Manager,
    #[cfg(feature = "service")]
    pub(super) serving: Serving,
    pub(super) managed: bool,
}

impl Task for ControlPlane {
    type Output = Result<(), NodeError>;

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Self::Output> {
        #[cfg(feature = "service")]
        if !self.managed
            && let Poll::Ready(ended) = self.serving.poll(cx)
        {
            self.manager.end();
            return Poll::Ready(ended);
        }
        if !self.managed {
            std::task::ready!(self.manager.poll(cx));
            self.managed = true;
        }
        #[cfg(feature = "service")]
        return self.serving.end(cx);
        #[cfg(not(feature = "service"))]
        Poll::Ready(Ok(()))
    }
}
