from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0004_accounts_that_people_use"),
    ]

    operations = [
        migrations.AddField(
            model_name="user",
            name="founds",
            field=models.CharField(blank=True, max_length=120),
        ),
    ]
