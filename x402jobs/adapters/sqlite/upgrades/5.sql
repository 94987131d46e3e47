-- From the fourth schema to the fifth: what is thrown away is found without reading everything.

-- Claims that came to nothing, which are thrown away after a day.
CREATE INDEX x402_executions_unsold ON x402_executions (ended_at)
    WHERE kind = 'paid' AND state = 'released' AND opened_at IS NULL;
