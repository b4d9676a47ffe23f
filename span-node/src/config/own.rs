//! Span's own document, for what Talos has no words for.

use std::num::NonZeroU8;

use zeroize::Zeroizing;

use super::builder::{Builder, Topic};
use super::node::{Cluster, OverlayHost};
use super::section::{Field, Report, Section};
use super::{talos, value};
use crate::cipher::UnknownCipher;
use crate::token::Token;

/// `NodeConfig` of `span/v1`.
pub(super) fn node_config(mut document: Section<'_>, builder: &mut Builder, report: &mut Report) {
    if let Some(field) = document.get("token") {
        token(&field, builder, report);
    }
    if let Some(field) = document.get("name") {
        builder.config.name = value::host_name(&field, report);
    }
    if let Some(field) = document.get("hostname") {
        talos::hostname(&field, builder, report);
    }
    if let Some(field) = document.get("machineType")
        && let Some(machine_type) = talos::machine_type(&field, report)
        && builder.claim(Topic::MachineType, &field.path, field.at, report)
    {
        builder.config.machine_type = machine_type;
    }
    if let Some(field) = document.get("interface") {
        let else_say =
            "cannot be an interface's name; use 1 to 15 letters, digits, '_', '=', '+', '.' or '-'";
        if let Some(name) = field.parse_with(report, |text| text.parse().map_err(|_| else_say.to_owned())) {
            builder.config.interface = name;
        }
    }
    if let Some(field) = document.get("mtu") {
        talos::mtu(&field, builder, report);
    }
    if let Some(field) = document.get("listenPort") {
        let else_say = "is no UDP port; write a number between 1 and 65535, or 0 to take any";
        if let Some(port) = field.integer(report, 0..=u16::MAX, else_say) {
            builder.config.listen_port = port;
        }
    }
    if let Some(field) = document.get("cipher") {
        let cipher = field.parse_with(report, |text| text.parse().map_err(|e: UnknownCipher| e.to_string()));
        builder.config.cipher = cipher.unwrap_or_default();
    }
    if let Some(field) = document.get("threads") {
        let else_say = "is no number of threads; write one between 1 and 255";
        if let Some(threads) = field.integer(report, 1..=u8::MAX, else_say).and_then(NonZeroU8::new) {
            builder.config.threads = threads;
        }
    }
    if let Some(field) = document.get("overlayAddress") {
        let host = field.parse_with(report, |text| match text {
            "key" => Ok(OverlayHost::Key),
            "mac" => Ok(OverlayHost::Mac),
            _ => Err("is no source of an address; write key, or mac as Talos has it".to_owned()),
        });
        builder.config.overlay_host = host.unwrap_or_default();
    }
    if let Some(routes) = document.get("routes").and_then(|field| field.boolean(report)) {
        builder.config.routes = routes;
    }
    if let Some(path) = document.get("stateDirectory").and_then(|field| value::path(&field, report)) {
        builder.config.state_dir = path;
    }
    if let Some(field) = document.get("controlSocket") {
        builder.config.control_socket = value::path(&field, report);
    }
    if let Some(field) = document.get("addresses") {
        builder.config.addresses = field.list(report, value::address);
    }
    if let Some(field) = document.get("advertisedNetworks") {
        builder.config.advertised_networks = field.list(report, value::network);
    }
    if let Some(section) = document.section("discovery", report) {
        discovery(section, builder, report);
    }
    document.finish(report);
}

fn discovery(mut section: Section<'_>, builder: &mut Builder, report: &mut Report) {
    if let Some(field) = section.get("ca") {
        builder.config.discovery.ca = value::path(&field, report);
    }
    if let Some(bypass) = section.get("bypassMesh").and_then(|field| field.boolean(report)) {
        builder.config.discovery.bypass_mesh = bypass;
    }
    if let Some(field) = section.get("serve") {
        builder.config.discovery.serve = value::listen_address(&field, report);
    }
    if let Some(field) = section.get("membersFile") {
        builder.config.discovery.members = value::path(&field, report);
    }
    section.finish(report);
}

fn token(field: &Field<'_>, builder: &mut Builder, report: &mut Report) {
    if !builder.claim(Topic::Identity, &field.path, field.at, report) {
        return;
    }
    let parse =
        |text: &str| Zeroizing::new(text.to_owned()).parse::<Token>().map_err(|error| error.to_string());
    if let Some(token) = field.secret_with(report, parse) {
        builder.config.discovery.services.extend(token.services().iter().cloned());
        builder.config.cluster = Some(Cluster { id: token.id().clone(), secret: token.secret().clone() });
    }
}
