"""What is wrong, as data: findings with their places, their codes, and near names."""
