"""Run laws on subjects, dtypes and devices: options, plan, events, session, replay."""
