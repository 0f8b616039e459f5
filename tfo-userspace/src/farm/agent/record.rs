//! This host's record in etcd: what it has in force, or that it asks to be admitted.

use tracing::warn;

use super::{Agent, own_record::OwnRecord};
use crate::{
    farm::{
        admission::Follows, error::FarmError, etcd::Store, host_record::HostRecord,
        source::OwnCookiesTaken,
    },
    kernel::clock::Now,
};

impl Agent {
    /// Fails where another live host has this host's name. Revokes the lease of this host's last session.
    pub(super) async fn ensure_unique_name(&self, store: &mut Store) -> Result<(), FarmError> {
        let found = store.record(&self.config.host).await?;
        let Some(HostRecord {
            instance,
            lease: Some(lease),
            ..
        }) = found
        else {
            return Ok(());
        };
        if instance == self.state_file.instance {
            store.revoke_lease(lease).await;
        } else if store.is_lease_alive(lease).await? {
            return Err(FarmError::NameTaken(self.config.host.clone()));
        }
        Ok(())
    }

    /// Writes this host's record where it changed.
    pub(super) async fn publish(
        &mut self,
        store: &mut Store,
        own: &mut OwnRecord,
    ) -> Result<(), FarmError> {
        let in_force = self.channels.in_force.borrow_and_update().clone();
        let report = self.report.get();
        let mut new = own.written.clone().unwrap_or_default();
        let follows = Follows {
            held: self.held.as_ref(),
            is_current: self.revision.is_some(),
            applied_to: self.applied_to.as_ref(),
            in_force: in_force.step(),
        };
        let Some(acknowledged) = self.applicant().report(&follows, &mut new) else {
            return Ok(());
        };
        new.instance.clone_from(&self.state_file.instance);
        env!("CARGO_PKG_VERSION").clone_into(&mut new.version);
        new.lease = Some(own.lease);
        match in_force.own_cookies {
            OwnCookiesTaken::None => new.own_cookies = None,
            // What was taken before still is.
            OwnCookiesTaken::Pending => {}
            OwnCookiesTaken::Taken { rules, .. } => new.own_cookies = Some(rules),
        }
        new.primary = in_force.primary.map(|primary| primary.to_string());
        new.guard = in_force.guard;
        new.error = in_force.error.or(report.error);
        // The skew differs every time: it is written along with other changes, not on its own.
        if own.written.as_ref() != Some(&new) {
            new.skew = report.skew;
            self.write(store, own, new).await?;
        }
        self.report
            .change(|report| report.acknowledged = acknowledged);
        Ok(())
    }

    async fn write(
        &self,
        store: &mut Store,
        own: &mut OwnRecord,
        record: HostRecord,
    ) -> Result<(), FarmError> {
        own.revision = store.put_record(&self.config.host, &record).await?;
        own.written = Some(record);
        Ok(())
    }

    /// Writes this host's record again if somebody else changed it.
    pub(super) async fn restore_record(
        &mut self,
        store: &mut Store,
        own: &mut OwnRecord,
    ) -> Result<(), FarmError> {
        if !std::mem::take(&mut own.foreign) {
            return Ok(());
        }
        let Some(record) = own.written.clone() else {
            return Ok(());
        };
        self.ensure_unique_name_against(store, &record).await?;
        self.report.change(|report| report.ignored += 1);
        let line = format!(
            "{}hosts/{} was changed in etcd by someone else: written again",
            self.config.prefix, self.config.host
        );
        if self.quiet.allows(&line, Now::read().boot) {
            warn!("farm: {line}");
        }
        self.write(store, own, record).await
    }

    /// Fails where the record in etcd is that of another live host.
    async fn ensure_unique_name_against(
        &self,
        store: &mut Store,
        record: &HostRecord,
    ) -> Result<(), FarmError> {
        let found = store.record(&self.config.host).await?;
        let other = found.filter(|found| found.instance != record.instance);
        if let Some(lease) = other.and_then(|other| other.lease)
            && store.is_lease_alive(lease).await?
        {
            return Err(FarmError::NameTaken(self.config.host.clone()));
        }
        Ok(())
    }
}
