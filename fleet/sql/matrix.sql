-- Product by Kubernetes: clusters by the newest version of the product among their nodes and the minor version of Kubernetes.
SELECT
    cluster_days.day AS day,
    cluster_days.confirmed AS confirmed,
    reports.version_max AS product,
    regexp_replace(reports.k8s_version, '^v?([0-9]+\.[0-9]+).*$', '\1') AS kubernetes,
    count(DISTINCT cluster_days.cluster) AS clusters
FROM reports JOIN cluster_days ON reports.report_id = cluster_days.report_id
GROUP BY 1, 2, 3, 4
ORDER BY 1, 2, 3 NULLS LAST, 4 NULLS LAST
