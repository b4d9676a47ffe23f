//! `span discovery`.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use span_discovery::service::server::{Server, ServerConfig, ServerTls};
use tokio::sync::oneshot;
use tracing::info;

use super::args::Discovery;
use super::signals;

pub(super) fn run(args: &Discovery) -> Result<ExitCode> {
    let server = Server::bind(configuration(args))?;
    info!(address = %server.local_addr(), tls = args.certificate.is_some(), "serving discovery");
    if let Some(address) = server.metrics_addr() {
        info!(%address, "serving metrics");
    }
    let (stop, stopped) = oneshot::channel();
    signals::on_end(move || {
        // Without a receiver the service has ended already.
        let _ = stop.send(());
    })
    .context("listening for signals")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(server.run(async {
        // Sent or dropped, it means the same.
        let _ = stopped.await;
    }))?;
    info!("ended");
    Ok(ExitCode::SUCCESS)
}

fn configuration(args: &Discovery) -> ServerConfig {
    let mut config = ServerConfig::new(args.listen);
    config.metrics = args.metrics;
    if let (Some(certificate), Some(key)) = (&args.certificate, &args.key) {
        config.tls = Some(ServerTls { certificate: certificate.clone(), key: key.clone() });
    }
    config.snapshot.clone_from(&args.snapshot);
    config.snapshot_interval = args.snapshot_interval;
    config.gc_interval = args.gc_interval;
    config.redirect.clone_from(&args.redirect);
    config.trust_x_real_ip = args.trust_x_real_ip;
    config.trust_x_forwarded_for = args.trust_x_forwarded_for;
    config
}
