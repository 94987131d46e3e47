-- From the third schema to the fourth: what waits for somebody.

-- What waits for somebody: few rows, and looked at every half a minute.
CREATE INDEX x402_executions_matters ON x402_executions (state, created_at)
    WHERE state IN ('settling', 'refund_due');
