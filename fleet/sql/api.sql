-- API calls by operation, class of status and version of the product. A report counts those since the report before it.
SELECT
    cluster_days.day AS day,
    cluster_days.confirmed AS confirmed,
    reports.version_max AS version,
    api_calls.operation AS operation,
    floor(api_calls.status / 100) AS status_class,
    sum(CAST(coalesce(api_calls.calls, 0) AS DECIMAL(38, 0))) AS calls
FROM api_calls
JOIN reports ON api_calls.report_id = reports.report_id
JOIN cluster_days ON api_calls.report_id = cluster_days.report_id
GROUP BY 1, 2, 3, 4, 5
ORDER BY 1, 2, 3 NULLS LAST, 4, 5
