//! The settings of a pass: those of the primary, but for what the data directory has settled.

use crate::error::Result;
use crate::mysql::settings::{self, Decides, Values, ZONE, find};
use crate::pass::attempts::Attempts;
use crate::replication::primary::Facts;
use crate::seed::dump::First;
use crate::server::reserved_options::is_given;

/// The files of InnoDB's system tablespace, which a dump does not bring along.
const FILES: &str = "innodb_data_file_path";

impl Attempts<'_> {
    /// What the private server is started with.
    ///
    /// # Errors
    /// [`crate::error::Error::BackupDamaged`] when the manifest of the base holds what no server has.
    pub(crate) fn settings(&self, facts: &Facts) -> Result<Values> {
        let mut values = facts.settings.clone();
        let base = self.bases.current();
        if base.is_some() || self.plan.first != Some(First::Clone) {
            values.retain(|(name, _)| name != FILES);
        }
        let Some(base) = base else { return Ok(values) };
        let own = settings::of_directory(&base.name, &base.manifest.header.settings)?;
        Ok(settings::with(values, own))
    }

    /// What the manifest keeps of these: what the data needs, and what servers do not have by
    /// themselves.
    pub(crate) fn kept_settings(&self, facts: &Facts) -> Result<Values> {
        let mut values = kept(self.settings(facts)?);
        values.extend(facts.zone.name().map(|zone| (ZONE.to_string(), zone)));
        Ok(values)
    }

    /// The backup may be wrong for the reason `what`: warns once, and the pass ends with status 3.
    pub(crate) fn needs_attention(&mut self, what: Option<String>) {
        if let (None, Some(what)) = (&self.attention, what) {
            log::warn!("{what}");
            self.attention = Some(what);
        }
    }

    /// What cannot be taken over from the primary of `facts`, and may make a difference.
    pub(crate) fn missing_setting(&self, facts: &Facts) -> Option<String> {
        let given = |name: &str| is_given(&self.plan.server.options, &name.replace('_', "-"));
        let missing = facts.settings.iter().filter(|(name, value)| {
            find(name).is_some_and(|setting| setting.is_elsewhere(value)) && !given(name)
        });
        let missing: Vec<(&str, String)> =
            missing.map(|(name, value)| (name.as_str(), format!("{name}={value}"))).collect();
        let (first, _) = missing.first()?;
        let all = missing.iter().map(|(_, what)| what.as_str()).collect::<Vec<_>>().join(", ");
        Some(format!(
            "primary {} has {all}, which the private server is not known to have: tables or full-text \
             indexes made here may differ; provide it and set --mysqld-option=--{}=...",
            facts.address,
            first.replace('_', "-")
        ))
    }
}

/// What a manifest keeps.
pub(crate) fn kept(values: Values) -> Values {
    let keeps = |name: &str, value: &str| {
        find(name).is_some_and(|setting| {
            let said = setting.decides == Decides::Data || setting.is_unusual(value);
            said && setting.is_kept(value)
        })
    };
    values.into_iter().filter(|(name, value)| keeps(name, value)).collect()
}
