//! One connection at work: what the watch says, what is to be sent, what is in doubt.

use std::collections::BTreeSet;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use span_core::mesh::NodeId;
use tokio::time::{Instant, sleep_until};
use tonic::{Code, Status, Streaming};

use super::call::{Client, Failure, call, failure, readable, request};
use super::outbox::{Achieved, Call, Own, Terms};
use super::session::Life;
use super::view::View;
use super::{ServiceConfig, chance};
use crate::tier::{Published, TierEvent};
use crate::wire::server::{Affiliate, AffiliateDeleteRequest, ListRequest, WatchResponse};

/// Between two refreshes that changes ask for.
const SETTLE: Duration = Duration::from_millis(250);

/// Between two looks at whether deletions are real.
const LOOK: Duration = Duration::from_secs(5);

/// Before a refused record is offered again.
const RETRY: Duration = Duration::from_secs(30);

/// How long a member stays that a restarted service has not heard of yet. Nodes come back to it within the
/// longest of their waits.
const GRACE: Duration = Duration::from_secs(60);

/// A call under way, if there is one.
type Underway<T> = Option<Pin<Box<dyn Future<Output = T> + Send>>>;

/// One connection at work.
pub(super) struct Work {
    client: Client,
    stream: Streaming<WatchResponse>,
    achieved: Achieved,
    refresh: Underway<Result<Vec<Done>, Failure>>,
    /// When everything is to be kept alive again.
    refresh_all_at: Instant,
    /// When what changed is to be sent, if anything did.
    refresh_changes_at: Option<Instant>,
    refreshed: Option<Instant>,
    list: Underway<Result<Vec<Affiliate>, Status>>,
    list_at: Option<Instant>,
    listed: Option<Instant>,
    /// Affiliates the service said are gone. Some services say so of an affiliate that merely lost an
    /// endpoint, so a list is asked for before anyone is dropped.
    doubted: BTreeSet<NodeId>,
    /// Those the list under way is about.
    asked: BTreeSet<NodeId>,
    drop_missing_at: Option<Instant>,
}

/// What a refresh achieved.
enum Done {
    /// The service has this version of the own record.
    Own(u64),
    Observed(NodeId, Vec<SocketAddr>),
    /// This version of the own record was refused.
    OwnRefused(u64, Status),
    ObservedRefused(NodeId, Vec<SocketAddr>, Status),
}

impl Work {
    /// A connection over which a watch has begun; `missing` if it did not show all members known from before.
    pub(super) fn new(client: Client, stream: Streaming<WatchResponse>, missing: bool) -> Self {
        Work {
            client,
            stream,
            achieved: Achieved::default(),
            refresh: None,
            refresh_all_at: Instant::now(),
            refresh_changes_at: None,
            refreshed: None,
            list: None,
            list_at: None,
            listed: None,
            doubted: BTreeSet::new(),
            asked: BTreeSet::new(),
            drop_missing_at: missing.then(|| Instant::now() + GRACE),
        }
    }

    /// Until something fails.
    pub(super) async fn run(mut self, life: &mut Life) -> Failure {
        loop {
            let refresh_at =
                self.refresh_changes_at.map_or(self.refresh_all_at, |at| at.min(self.refresh_all_at));
            let refresh_at = self.refresh.is_none().then_some(refresh_at);
            let list_at = self.list_at.filter(|_| self.list.is_none());
            tokio::select! {
                message = self.stream.message() => match message {
                    Ok(Some(message)) => self.take(life, &message),
                    Ok(None) => return Failure("the service ended the watch".to_owned()),
                    Err(status) => return failure("watch", &status),
                },
                outcome = underway(&mut self.refresh) => match outcome {
                    Ok(done) => self.note(life, done),
                    Err(failure) => return failure,
                },
                outcome = underway(&mut self.list) => match outcome {
                    Ok(affiliates) => self.settle(life, &affiliates),
                    Err(status) => return failure("list", &status),
                },
                () = at(refresh_at) => self.begin_refresh(life),
                () = at(list_at) => self.begin_list(life),
                () = at(self.drop_missing_at) => {
                    self.drop_missing_at = None;
                    life.tell(View::drop_missing);
                }
                changed = life.wanted.changed() => match changed {
                    Ok(()) => self.hurry(life),
                    // The tier is being dropped, and this with it.
                    Err(_) => std::future::pending().await,
                },
            }
        }
    }

    /// Takes a message of the watch.
    fn take(&mut self, life: &mut Life, message: &WatchResponse) {
        for affiliate in &message.affiliates {
            // An id that is none is refused with the rest of the record.
            let id = NodeId::new(&affiliate.id).ok();
            match id.filter(|_| message.deleted) {
                Some(id) if life.view.member(&id).is_some() => {
                    self.doubted.insert(id);
                }
                Some(id) => life.tell(|view, events| view.remove(&id, events)),
                None if message.deleted => {}
                None => {
                    self.doubted.retain(|id| id.as_str() != affiliate.id);
                    self.asked.retain(|id| id.as_str() != affiliate.id);
                    life.tell(|view, events| view.update(affiliate, events));
                }
            }
        }
        self.plan_list();
        self.hurry(life);
    }

    /// Plans to ask about those in doubt, if there are any: soon, not in step with the other nodes, and not
    /// too often.
    fn plan_list(&mut self) {
        if !self.doubted.is_empty() && self.list_at.is_none() && self.list.is_none() {
            let soon = Instant::now() + Duration::from_secs(1).mul_f64(chance());
            self.list_at = Some(self.listed.map_or(soon, |last| soon.max(last + LOOK)));
        }
    }

    fn begin_list(&mut self, life: &Life) {
        self.list_at = None;
        self.listed = Some(Instant::now());
        self.asked = std::mem::take(&mut self.doubted);
        let mut client = self.client.clone();
        let list = ListRequest { cluster_id: life.config.cluster.as_str().to_owned() };
        self.list = Some(Box::pin(async move {
            let answer = call(client.list(request(list))).await?;
            Ok(answer.into_inner().affiliates)
        }));
    }

    /// Drops those the list does not hold.
    fn settle(&mut self, life: &mut Life, affiliates: &[Affiliate]) {
        for id in std::mem::take(&mut self.asked) {
            match affiliates.iter().find(|affiliate| affiliate.id == id.as_str()) {
                Some(affiliate) => life.tell(|view, events| view.update(affiliate, events)),
                None => {
                    self.achieved.forget(&id);
                    life.tell(|view, events| view.remove(&id, events));
                }
            }
        }
        self.plan_list();
        self.hurry(life);
    }

    /// Plans to send what changed, if anything did: at once, but not without pause.
    fn hurry(&mut self, life: &Life) {
        let wanted = life.wanted.borrow();
        if wanted.is_due(&terms(&life.config), &life.view, &mut self.achieved) {
            let now = Instant::now();
            self.refresh_changes_at = Some(self.refreshed.map_or(now, |last| last + SETTLE));
        }
    }

    fn begin_refresh(&mut self, life: &mut Life) {
        let now = Instant::now();
        let all = now >= self.refresh_all_at;
        let (calls, version) = {
            let wanted = life.wanted.borrow_and_update();
            (wanted.calls(&terms(&life.config), &life.view, &mut self.achieved, all), wanted.version)
        };
        self.refreshed = Some(now);
        self.refresh_changes_at = None;
        if all {
            // A little less than half the time to live, and not in step with the other nodes.
            self.refresh_all_at = now + (life.config.ttl / 2).mul_f64(0.8 + 0.2 * chance());
        }
        let client = self.client.clone();
        let delete = AffiliateDeleteRequest {
            cluster_id: life.config.cluster.as_str().to_owned(),
            affiliate_id: life.config.node_id.as_str().to_owned(),
        };
        self.refresh = Some(Box::pin(refresh(client, calls, version, delete)));
    }

    /// Notes what a refresh achieved.
    fn note(&mut self, life: &mut Life, done: Vec<Done>) {
        for done in done {
            match done {
                Done::Own(version) => {
                    self.achieved.own = Some(version);
                    let wanted = life.wanted.borrow();
                    let published = match &wanted.own {
                        _ if wanted.version != version => Published::Pending,
                        Own::Nothing => Published::Nothing,
                        Own::Published { .. } => Published::Current,
                        Own::Withdrawn => Published::Withdrawn,
                    };
                    life.told.status(|status| status.published = published);
                }
                Done::Observed(node, endpoints) => self.achieved.observed.extend(pairs(&node, &endpoints)),
                // What is refused counts as sent, so that it is offered again with the next full refresh and
                // not at once.
                Done::OwnRefused(version, status) => {
                    self.achieved.own = Some(version);
                    self.refresh_all_at =
                        self.refresh_all_at.min(Instant::now() + RETRY.mul_f64(1.0 + chance()));
                    let what = "this node's own record, or some of its endpoints".to_owned();
                    life.told.event(TierEvent::Refused { what, why: readable(&status) });
                }
                Done::ObservedRefused(node, endpoints, status) => {
                    self.achieved.observed.extend(pairs(&node, &endpoints));
                    let what = format!("endpoints seen of {:?}", node.as_str());
                    life.told.event(TierEvent::Refused { what, why: readable(&status) });
                }
            }
        }
        self.hurry(life);
    }
}

async fn refresh(
    mut client: Client,
    calls: Vec<Call>,
    version: u64,
    delete: AffiliateDeleteRequest,
) -> Result<Vec<Done>, Failure> {
    let mut done = Vec::with_capacity(calls.len());
    for next in calls {
        done.push(match next {
            Call::Publish(update) => match accepted(call(client.affiliate_update(request(update))).await)? {
                Ok(()) => Done::Own(version),
                Err(status) => Done::OwnRefused(version, status),
            },
            Call::Withdraw => match accepted(call(client.affiliate_delete(request(delete.clone()))).await)? {
                Ok(()) => Done::Own(version),
                Err(status) => Done::OwnRefused(version, status),
            },
            Call::Observe(node, seen, update) => {
                match accepted(call(client.affiliate_update(request(update))).await)? {
                    Ok(()) => Done::Observed(node, seen),
                    Err(status) => Done::ObservedRefused(node, seen, status),
                }
            }
        });
    }
    Ok(done)
}

/// Tells a service that refuses from one that fails.
fn accepted<T>(outcome: Result<T, Status>) -> Result<Result<(), Status>, Failure> {
    match outcome {
        Ok(_) => Ok(Ok(())),
        Err(status) if matches!(status.code(), Code::InvalidArgument | Code::ResourceExhausted) => {
            Ok(Err(status))
        }
        Err(status) => Err(failure("refresh", &status)),
    }
}

fn pairs<'a>(
    node: &'a NodeId,
    endpoints: &'a [SocketAddr],
) -> impl Iterator<Item = (NodeId, SocketAddr)> + 'a {
    endpoints.iter().map(|endpoint| (node.clone(), *endpoint))
}

fn terms(config: &ServiceConfig) -> Terms<'_> {
    Terms { cluster: &config.cluster, secret: &config.secret, me: &config.node_id, ttl: config.ttl }
}

async fn underway<T>(slot: &mut Underway<T>) -> T {
    let Some(future) = slot else { return std::future::pending().await };
    let outcome = future.await;
    *slot = None;
    outcome
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
