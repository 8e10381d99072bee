-- Trouble in the data path by version: what the counters of a volume have grown by since the day before. A volume without a
-- report of the day before is not counted; a counter that is smaller is that of a volume that was made anew, and one of 2^62
-- or more is made up.
WITH
    daily AS (
        SELECT
            volumes.volume_id AS volume_id,
            volumes.day AS day,
            max(reports.version_max) AS version,
            max(CASE WHEN cluster_days.confirmed THEN 1 ELSE 0 END) AS confirmed,
            max(CASE WHEN volumes.volume_master_failover_deployment < 4611686018427387904 THEN volumes.volume_master_failover_deployment END) AS failovers,
            max(CASE WHEN volumes.volume_master_recover_replica < 4611686018427387904 THEN volumes.volume_master_recover_replica END) AS recoveries,
            max(CASE WHEN volumes.volume_master_trigger_rejoin < 4611686018427387904 THEN volumes.volume_master_trigger_rejoin END) AS rejoins,
            max(CASE WHEN volumes.volume_master_promote < 4611686018427387904 THEN volumes.volume_master_promote END) AS promotions
        FROM volumes
        JOIN reports ON volumes.report_id = reports.report_id
        JOIN cluster_days ON volumes.report_id = cluster_days.report_id
        WHERE volumes.volume_id IS NOT NULL
        GROUP BY volumes.volume_id, volumes.day
    )
SELECT
    now.day AS day,
    now.confirmed = 1 AS confirmed,
    now.version AS version,
    count(*) AS volume_days,
    sum(CASE WHEN now.failovers >= before.failovers THEN now.failovers - before.failovers WHEN now.failovers < before.failovers THEN now.failovers - 0 END) AS failovers,
    sum(CASE WHEN now.recoveries >= before.recoveries THEN now.recoveries - before.recoveries WHEN now.recoveries < before.recoveries THEN now.recoveries - 0 END)
        AS recoveries,
    sum(CASE WHEN now.rejoins >= before.rejoins THEN now.rejoins - before.rejoins WHEN now.rejoins < before.rejoins THEN now.rejoins - 0 END) AS rejoins,
    sum(CASE WHEN now.promotions >= before.promotions THEN now.promotions - before.promotions WHEN now.promotions < before.promotions THEN now.promotions - 0 END)
        AS promotions
FROM daily AS now
JOIN daily AS before ON now.volume_id = before.volume_id AND now.day = before.day + INTERVAL '1' DAY
GROUP BY 1, 2, 3
ORDER BY 1, 2, 3 NULLS LAST
